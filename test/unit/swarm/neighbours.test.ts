import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { BlobKey } from '../../../shim/base/blob-key.ts';
import type { Digest } from '../../../shim/base/digest.ts';
import { CHUNK_SIZE_BYTES, DEFAULT_LIMITS } from '../../../shim/swarm/limits.ts';
import type { PeerMessage } from '../../../shim/swarm/messages.ts';
import { SwarmNode } from '../../../shim/swarm/swarm-node.ts';

const key: BlobKey = { host: 'registry.test', digest: `sha256:${'3'.repeat(64)}` as Digest };
const sizeBytes = 8 * CHUNK_SIZE_BYTES;
const peers = Array.from({ length: 24 }, (_, index) => `peer:${index + 1}`);

interface Told {
  readonly peer: string;
  readonly kind: PeerMessage['kind'];
  readonly atMs: number;
}

/** What a node tells others until `untilMs` when 14 of 24 holders follow it, each with a chunk whose hash nobody tells. */
function tells(untilMs: number): Told[] {
  const node = new SwarmNode({ self: 'self:1', zone: 'z', seed: 1, mayReadOrigin: false });
  node.handleMembers(
    peers.map((peer) => ({ peer, zone: 'z' })),
    0,
  );
  for (const peer of peers) node.handleConnected(peer, { zone: 'z' }, 0);
  node.join({ key, sizeBytes, held: undefined, hashes: [] }, 0);
  const told: Told[] = [];
  const answer = (atMs: number) => {
    for (let action = node.pollAction(); action !== undefined; action = node.pollAction()) {
      if (action.kind !== 'send') continue;
      const { peer, message } = action;
      told.push({ peer, kind: message.kind, atMs });
      if (message.kind === 'follow')
        node.handleMessage(peer, { kind: 'bitmap', key, held: new Uint8Array([1]), hashes: [] }, atMs);
      if (message.kind !== 'announce') continue;
      const holders = peers.map((other) => ({ peer: other, zone: 'z', complete: false }));
      node.handleMessage(
        peer,
        { kind: 'directory', key, holders, leases: [], imports: [], hashes: [] },
        atMs,
      );
    }
  };
  for (const peer of peers.slice(0, 14)) node.handleMessage(peer, { kind: 'follow', key, sizeBytes }, 0);
  answer(0);
  for (let atMs = node.nextWakeupMs(); atMs !== undefined && atMs <= untilMs; atMs = node.nextWakeupMs()) {
    node.handleTimeout(atMs);
    answer(atMs);
  }
  return told;
}

const { neighbourReviewFirstMs } = DEFAULT_LIMITS;

test('Neighbours: who gives nothing is exchanged soon after the start', () => {
  const told = tells(2 * neighbourReviewFirstMs);
  const left = told.filter(({ kind }) => kind === 'unfollow');
  assert.ok(left.length > 0);
  for (const { peer, atMs } of left) {
    const others = told.filter((each) => each.kind === 'follow' && each.atMs === atMs && each.peer !== peer);
    assert.ok(others.length > 0, 'another one is followed in its place');
  }
});

test('Neighbours: exchanges get rarer, and leave most neighbours alone', () => {
  const left = tells(16 * neighbourReviewFirstMs).filter(({ kind }) => kind === 'unfollow');
  const turns = [...new Set(left.map(({ atMs }) => atMs))];
  assert.ok(turns.length >= 3);
  for (let turn = 2; turn < turns.length; turn++) {
    const [a, b, c] = turns.slice(turn - 2, turn + 1) as [number, number, number];
    assert.ok(c - b > b - a);
  }
  assert.ok(left.length <= 2 * turns.length);
});

test.run();
