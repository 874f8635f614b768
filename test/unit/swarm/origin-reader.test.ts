import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { BlobKey } from '../../../shim/base/blob-key.ts';
import type { Digest } from '../../../shim/base/digest.ts';
import { CHUNK_SIZE_BYTES, DEFAULT_LIMITS } from '../../../shim/swarm/limits.ts';
import type { Action, ChunkRun, PeerMessage } from '../../../shim/swarm/messages.ts';
import { SwarmNode } from '../../../shim/swarm/swarm-node.ts';
import { drain, runUntil, sent } from '../../support/drive-swarm-node.ts';

type Announce = Extract<PeerMessage, { kind: 'announce' }>;

/** Blobs of which this node is not the best directory itself. */
const first: BlobKey = { host: 'registry.test', digest: `sha256:${'1'.repeat(64)}` as Digest };
const second: BlobKey = { host: 'registry.test', digest: `sha256:${'3'.repeat(64)}` as Digest };
const DIRECTORIES = ['dir:1', 'dir:2', 'dir:3'];
const { announceIntervalMs, leaseChunks, leasesPerNode } = DEFAULT_LIMITS;
const RUNS: readonly ChunkRun[] = Array.from({ length: leasesPerNode }, (_, index) => ({
  firstChunk: index * leaseChunks,
  chunkCount: leaseChunks,
}));

/** A node that other nodes are the directories of, and how it wishes for leases of a blob. */
class Reader {
  readonly node = new SwarmNode({ self: 'self:1', zone: '', seed: 1, mayReadOrigin: true });

  constructor() {
    this.node.handleMembers(
      DIRECTORIES.map((peer) => ({ peer, zone: '' })),
      0,
    );
    for (const peer of DIRECTORIES) this.node.handleConnected(peer, { zone: '' }, 0);
  }

  join(key: BlobKey, nowMs: number): Action[] {
    this.node.join({ key, sizeBytes: 64 * CHUNK_SIZE_BYTES, held: undefined, hashes: [] }, nowMs);
    return drain(this.node);
  }

  /** Answers of whom the node asked. */
  answer(actions: readonly Action[], key: BlobKey, runs: readonly ChunkRun[], nowMs: number): void {
    const asked = actions.find(
      (action) => action.kind === 'send' && action.message.kind === 'announce' && action.message.key === key,
    );
    assert.ok(asked?.kind === 'send');
    const leases = runs.map((run) => ({ ...run, ttlMs: 5_000 }));
    const answer = { kind: 'directory', key, holders: [], leases, imports: [], hashes: [] } as const;
    if (asked?.kind === 'send') this.node.handleMessage(asked.peer, answer, nowMs);
  }
}

function wishes(actions: readonly Action[], key: BlobKey): number[] {
  const announces: Announce[] = sent(actions, 'announce');
  return announces.filter((each) => each.key === key).map(({ leasesWanted }) => leasesWanted);
}

test('OriginReader: a wish that the directory was told to forget is told again as soon as there is a place', () => {
  const reader = new Reader();
  reader.answer(reader.join(first, 0), first, [], 1);
  reader.answer(reader.join(second, 2), second, RUNS, 3);
  const nowMs = announceIntervalMs * 1.2;
  const regular = runUntil(reader.node, nowMs);
  assert.is(wishes(regular, first).at(-1), 0, 'all places are taken');
  reader.answer(regular, first, [], nowMs);
  const [run] = RUNS;
  for (let chunk = 0; chunk < leaseChunks; chunk++)
    reader.node.handleOriginChunk(second, chunk, new Uint8Array(32), nowMs);
  reader.node.handleOriginEnd(second, run as ChunkRun, { ok: true }, nowMs);
  const after = runUntil(reader.node, nowMs + 20);
  assert.ok(wishes(after, first).some((count) => count > 0));
});

/** What the node reads at the origin while directories that answer grant nothing for two minutes, and when. */
function readsInVain(reader: Reader): { atMs: number; run: ChunkRun }[] {
  const reads: { atMs: number; run: ChunkRun }[] = [];
  for (let atMs = 100; atMs <= 120_000; atMs += 100) {
    const actions = runUntil(reader.node, atMs);
    for (const action of actions) if (action.kind === 'readOrigin') reads.push({ atMs, run: action.run });
    if (wishes(actions, first).length > 0) reader.answer(actions, first, [], atMs);
  }
  return reads;
}

test('OriginReader: whom nobody gives anything for half a minute tries one chunk, and no more while that is under way', () => {
  const reader = new Reader();
  reader.answer(reader.join(first, 0), first, [], 1);
  const reads = readsInVain(reader);
  assert.is(reads.length, 1);
  assert.is(reads[0]?.run.chunkCount, 1);
  assert.ok((reads[0]?.atMs as number) >= DEFAULT_LIMITS.starvedMs);
});

test('OriginReader: who reads a slow origin by lease is not starved', () => {
  const reader = new Reader();
  reader.answer(reader.join(first, 0), first, RUNS.slice(0, 1), 1);
  assert.equal(drain(reader.node).filter(({ kind }) => kind === 'readOrigin').length, 1);
  assert.equal(readsInVain(reader), []);
});

test.run();
