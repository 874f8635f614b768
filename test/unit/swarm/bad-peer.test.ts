import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type BlobKey, blobKeyId } from '../../../shim/base/blob-key.ts';
import type { Digest } from '../../../shim/base/digest.ts';
import type { OriginLimits } from '../../../shim/swarm/budget-bucket.ts';
import { CHUNK_SIZE_BYTES, DEFAULT_LIMITS } from '../../../shim/swarm/limits.ts';
import { MemberSet } from '../../../shim/swarm/member-set.ts';
import type { ChunkHash, PeerMessage } from '../../../shim/swarm/messages.ts';
import { Prng } from '../../../shim/swarm/prng.ts';
import { SwarmNode } from '../../../shim/swarm/swarm-node.ts';
import { drain, runUntil, sent } from '../../support/drive-swarm-node.ts';

const key: BlobKey = { host: 'registry.test', digest: `sha256:${'1'.repeat(64)}` as Digest };
const sizeBytes = 4 * CHUNK_SIZE_BYTES;
const hash = (value: number): ChunkHash => new Uint8Array(32).fill(value);
const allHashes = [{ firstChunk: 0, hashes: [1, 2, 3, 4].map(hash) }];

function nodeWithPeers(...peers: string[]): SwarmNode {
  return nodeWithin(undefined, peers);
}

function nodeWithin(originLimits: OriginLimits | undefined, peers: readonly string[]): SwarmNode {
  const options = { self: 'self:1', zone: 'z', seed: 1, mayReadOrigin: true };
  const node = new SwarmNode({ ...options, ...(originLimits && { originLimits }) });
  node.handleMembers([...peers.map((peer) => ({ peer, zone: 'z' }))], 0);
  for (const peer of peers) node.handleConnected(peer, { zone: 'z' }, 0);
  return node;
}

test('SwarmNode: nonsense from a peer never throws', () => {
  hearNonsense(nodeWithPeers('bad:1'));
  hearNonsense(nodeWithin({ bytesPerSecond: 1e6, requestsPerSecond: 5 }, ['bad:1']));
});

function hearNonsense(node: SwarmNode): void {
  node.join({ key, sizeBytes, held: undefined, hashes: [] }, 0);
  const prng = new Prng(9);
  const makers = nonsenseMakers(prng);
  for (let round = 0; round < 5000; round++) {
    node.handleMessage('bad:1', (makers[prng.below(makers.length)] as () => PeerMessage)(), round);
    node.handleTimeout(round);
    drain(node);
  }
  assert.ok(Number.isFinite(node.snapshot().requestsInFlight));
  assert.ok(!Number.isNaN(node.nextWakeupMs() ?? 0));
}

function nonsenseMakers(prng: Prng): (() => PeerMessage)[] {
  const odd = () =>
    [-1, 0, 0.5, 1, 3, 4, 1e9, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY][prng.below(10)] as number;
  const bytes = () => new Uint8Array(prng.below(4)).fill(255);
  const runs = () => [{ firstChunk: odd(), chunkCount: odd(), ttlMs: odd() }];
  const hashes = () => [
    { firstChunk: odd(), hashes: [bytes(), hash(prng.below(256)), hash(prng.below(256))] },
  ];
  const common = { key, sizeBytes };
  const budget = { host: key.host };
  return [
    () => ({
      kind: 'announce',
      key,
      sizeBytes: odd(),
      chunksHeld: odd(),
      complete: true,
      leasesWanted: odd(),
      missing: runs(),
      held: bytes(),
      leased: runs(),
      ttlMs: odd(),
      zone: '',
    }),
    () => ({
      kind: 'announce',
      ...common,
      chunksHeld: odd(),
      complete: false,
      leasesWanted: odd(),
      missing: runs(),
      held: new Uint8Array(1),
      leased: runs(),
      ttlMs: odd(),
      zone: '',
    }),
    () => ({
      kind: 'directory',
      key,
      holders: [
        { peer: 'self:1', zone: '', complete: true },
        { peer: 'x:1', zone: '', complete: false },
      ],
      leases: runs(),
      imports: runs(),
      hashes: hashes(),
    }),
    () => ({ kind: 'publish', key, hashes: hashes()[0] as { firstChunk: number; hashes: ChunkHash[] } }),
    () => ({ kind: 'returnLease', key, run: { firstChunk: odd(), chunkCount: odd() }, retryAfterMs: odd() }),
    () => ({ kind: 'follow', key, sizeBytes: odd() }),
    () => ({ kind: 'follow', ...common }),
    () => ({ kind: 'refuse', key, retryAfterMs: odd() }),
    () => ({ kind: 'bitmap', key, held: bytes(), hashes: hashes() }),
    () => ({ kind: 'bitmap', key, held: new Uint8Array([15]), hashes: hashes() }),
    () => ({ kind: 'have', key, hashes: hashes() }),
    () => ({ kind: 'unfollow', key }),
    () => ({ kind: 'request', requestId: odd(), key, chunk: odd() }),
    () => ({ kind: 'cancel', requestId: odd() }),
    () => ({ kind: 'busy', requestId: odd(), retryAfterMs: odd() }),
    () => ({ kind: 'gone', requestId: odd() }),
    () => ({ kind: 'askBudget', host: 'h', number: odd(), bytes: odd(), requests: odd(), isMoving: true }),
    () => ({ kind: 'askBudget', ...budget, number: odd(), bytes: odd(), requests: odd(), isMoving: false }),
    () => ({ kind: 'grantBudget', ...budget, number: 1, bytes: odd(), requests: odd(), retryAfterMs: odd() }),
    () => ({ kind: 'depart', key }),
  ];
}

test('SwarmNode: a directory that is too slow to give chunks stays the directory', () => {
  const slow = MemberSet.of([
    { peer: 'a:1', zone: 'z' },
    { peer: 'b:1', zone: 'z' },
  ]).rank(blobKeyId(key), 'self:1', 3)[0];
  assert.is.not(slow, 'self:1', 'another digest is needed for this test');
  const node = nodeWithPeers('a:1', 'b:1');
  const peer = slow as string;
  node.join({ key, sizeBytes, held: undefined, hashes: [] }, 0);
  const holders = [{ peer, zone: 'z', complete: true }];
  node.handleMessage(
    peer,
    { kind: 'directory', key, holders, leases: [], imports: [], hashes: allHashes },
    1,
  );
  node.handleMessage(peer, { kind: 'bitmap', key, held: new Uint8Array([15]), hashes: allHashes }, 2);
  const requests = sent(drain(node), 'request');
  assert.ok(requests.length >= DEFAULT_LIMITS.failuresMax);
  for (const { requestId, chunk } of requests)
    node.handleChunk({ key, chunk, requestId, peer, outcome: 'failed', elapsedMs: 1 }, 3);
  const actions = runUntil(node, 1.25 * DEFAULT_LIMITS.announceIntervalMs);
  assert.ok(actions.some((action) => action.kind === 'note' && action.event === 'peerBackedOff'));
  const told = actions.flatMap((action) =>
    action.kind === 'send' && action.message.kind === 'announce' ? [action.peer] : [],
  );
  assert.equal([...new Set(told)], [peer]);
});

test('SwarmNode: a directory that fell silent is asked for no more leases, and gets back what it grants later', () => {
  const members = ['a:1', 'b:1'].map((peer) => ({ peer, zone: 'z' }));
  const silent = MemberSet.of(members).rank(blobKeyId(key), 'self:1', 3)[0] as string;
  assert.is.not(silent, 'self:1', 'another digest is needed for this test');
  const node = nodeWithPeers('a:1', 'b:1');
  node.join({ key, sizeBytes, held: undefined, hashes: [] }, 0);
  const wanted = runUntil(node, 2_500).flatMap((action) =>
    action.kind === 'send' && action.peer === silent && action.message.kind === 'announce'
      ? [action.message.leasesWanted]
      : [],
  );
  assert.ok((wanted[0] ?? 0) > 0);
  assert.is(wanted.at(-1), 0);
  const leases = [{ firstChunk: 0, chunkCount: 4, ttlMs: 5_000 }];
  const late = { kind: 'directory', key, holders: [], leases, imports: [], hashes: [] } as const;
  node.handleMessage(silent, late, 2_501);
  assert.ok(sent(drain(node), 'returnLease').some(({ run }) => run.firstChunk === 0 && run.chunkCount === 4));
});

test('SwarmNode: a peer whose chunk is wrong is hung up on and not asked again', () => {
  const node = nodeWithPeers('liar:1');
  node.join({ key, sizeBytes, held: undefined, hashes: [] }, 0);
  node.handleMessage(
    'liar:1',
    {
      kind: 'directory',
      key,
      holders: [{ peer: 'liar:1', zone: 'z', complete: true }],
      leases: [],
      imports: [],
      hashes: allHashes,
    },
    1,
  );
  const before = runUntil(node, 10);
  assert.ok(sent(before, 'follow').length === 1);
  node.handleMessage('liar:1', { kind: 'bitmap', key, held: new Uint8Array([15]), hashes: [] }, 10);
  const [request] = sent(drain(node), 'request');
  assert.ok(request !== undefined);
  const arrival = {
    key,
    chunk: request.chunk,
    requestId: request.requestId,
    peer: 'liar:1',
    elapsedMs: 1,
  } as const;
  node.handleChunk({ ...arrival, outcome: 'wrongHash' }, 11);
  const after = drain(node);
  assert.ok(after.some((action) => action.kind === 'hangUp' && action.peer === 'liar:1'));
  node.handleDisconnected('liar:1', 'hung up', 12);
  const later = runUntil(node, 60_000);
  assert.is(sent(later, 'request').length, 0);
  assert.not.ok(later.some((action) => action.kind === 'dial'));
  assert.is(node.snapshot().banned, 1);
});

test('SwarmNode: after distrust() the origin alone is read, and who gave other bytes is banned', () => {
  const node = nodeWithPeers('liar:1');
  node.join({ key, sizeBytes, held: undefined, hashes: [] }, 0);
  node.handleMessage(
    'liar:1',
    {
      kind: 'directory',
      key,
      holders: [{ peer: 'liar:1', zone: 'z', complete: true }],
      leases: [],
      imports: [],
      hashes: allHashes,
    },
    1,
  );
  runUntil(node, 10);
  node.handleMessage('liar:1', { kind: 'bitmap', key, held: new Uint8Array([15]), hashes: [] }, 10);
  const requests = sent(drain(node), 'request');
  for (const { chunk, requestId } of requests) {
    node.handleChunk({ key, chunk, requestId, peer: 'liar:1', outcome: 'stored', elapsedMs: 1 }, 11);
  }
  assert.ok((node.snapshot().blobs[0]?.chunksHeld ?? 0) > 0);
  node.distrust(key, 12);
  assert.is(node.snapshot().blobs[0]?.chunksHeld, 0);
  const reads = runUntil(node, 200).filter((action) => action.kind === 'readOrigin');
  assert.equal(
    reads.map((action) => action.run),
    [{ firstChunk: 0, chunkCount: 4 }],
  );
  for (let chunk = 0; chunk < 4; chunk++) node.handleOriginChunk(key, chunk, hash(100 + chunk), 300);
  node.handleOriginEnd(key, { firstChunk: 0, chunkCount: 4 }, { ok: true }, 301);
  assert.ok(drain(node).some((action) => action.kind === 'complete'));
  assert.is(node.snapshot().banned, 1);
});

/** A node whose only neighbour holds everything and was asked for its first chunks at 10 ms. */
function askedOnce(): { node: SwarmNode; requests: Extract<PeerMessage, { kind: 'request' }>[] } {
  const node = nodeWithPeers('silent:1');
  node.join({ key, sizeBytes, held: undefined, hashes: [] }, 0);
  const holders = [{ peer: 'silent:1', zone: 'z', complete: true }];
  node.handleMessage(
    'silent:1',
    { kind: 'directory', key, holders, leases: [], imports: [], hashes: allHashes },
    1,
  );
  runUntil(node, 10);
  node.handleMessage('silent:1', { kind: 'bitmap', key, held: new Uint8Array([15]), hashes: [] }, 10);
  return { node, requests: sent(drain(node), 'request') };
}

test('SwarmNode: a peer that takes requests and sends nothing is given up soon', () => {
  const { node, requests } = askedOnce();
  assert.ok(requests.length > 0);
  const actions = runUntil(node, 10 + DEFAULT_LIMITS.firstByteTimeoutMs + 200);
  assert.equal(
    sent(actions, 'cancel').map(({ requestId }) => requestId),
    requests.map(({ requestId }) => requestId),
  );
  assert.is(node.snapshot().requestsInFlight, 0);
});

test('SwarmNode: a slow peer whose chunk is on its way is waited for', () => {
  const { node, requests } = askedOnce();
  node.handleChunkBegun('silent:1', requests[0]?.requestId ?? 0, 1000);
  const actions = runUntil(node, 9000);
  assert.is(sent(actions, 'cancel').length, 0);
  assert.is(node.snapshot().requestsInFlight, requests.length);
});

test('SwarmNode: a complete blob keeps its hashes, whatever a directory says later', () => {
  const node = nodeWithPeers('a:1');
  node.join({ key, sizeBytes, held: undefined, hashes: [] }, 0);
  const common = { kind: 'directory', key, leases: [], imports: [] } as const;
  const holders = [{ peer: 'a:1', zone: 'z', complete: true }];
  node.handleMessage('a:1', { ...common, holders, hashes: [] }, 1);
  runUntil(node, 10);
  node.handleMessage('a:1', { kind: 'bitmap', key, held: new Uint8Array([15]), hashes: allHashes }, 10);
  for (let nowMs = 11; node.snapshot().blobs[0]?.complete === false && nowMs < 100; nowMs++) {
    for (const { requestId, chunk } of sent(runUntil(node, nowMs), 'request')) {
      const arrival = { key, chunk, requestId, peer: 'a:1', outcome: 'stored', elapsedMs: 1 } as const;
      node.handleChunk(arrival, nowMs);
    }
  }
  assert.is(node.snapshot().blobs[0]?.complete, true);
  const others = [{ firstChunk: 0, hashes: [5, 6, 7, 8].map(hash) }];
  node.handleMessage('a:1', { ...common, holders: [], hashes: others }, 100);
  assert.is(node.snapshot().blobs[0]?.complete, true);
  assert.equal(node.expectedHash(key, 0), hash(1));
});

test('SwarmNode: what is not held is not served', () => {
  const node = nodeWithPeers('a:1');
  node.join({ key, sizeBytes, held: undefined, hashes: [] }, 0);
  drain(node);
  node.handleMessage('a:1', { kind: 'request', requestId: 1, key, chunk: 2 }, 1);
  const actions = drain(node);
  assert.equal(sent(actions, 'gone'), [{ kind: 'gone', requestId: 1 }]);
  assert.not.ok(actions.some((action) => action.kind === 'serve'));
});

test('SwarmNode: chunks held from before are not fetched again', () => {
  const node = new SwarmNode({ self: 'self:1', zone: 'z', seed: 1, mayReadOrigin: true });
  node.handleMembers([], 0);
  node.seed({ key, sizeBytes, hashes: allHashes }, 0);
  const actions = runUntil(node, 1000);
  assert.ok(actions.some((action) => action.kind === 'complete'));
  assert.not.ok(actions.some((action) => action.kind === 'readOrigin'));
});

test('SwarmNode: uploads beyond the slots are refused at once with a hint', () => {
  const node = nodeWithPeers('a:1');
  node.seed({ key, sizeBytes, hashes: allHashes }, 0);
  drain(node);
  for (let requestId = 1; requestId <= 20; requestId++) {
    node.handleMessage('a:1', { kind: 'request', requestId, key, chunk: requestId % 4 }, 1);
  }
  const actions = drain(node);
  const served = actions.filter((action) => action.kind === 'serve');
  const busy = sent(actions, 'busy');
  assert.is(served.length + busy.length, 20);
  assert.is(node.snapshot().uploadsInFlight, served.length);
  assert.ok(busy.every((message) => message.retryAfterMs >= 1 && message.retryAfterMs <= 200));
});

test.run();
