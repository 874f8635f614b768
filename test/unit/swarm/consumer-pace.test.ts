import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { BlobKey } from '../../../shim/base/blob-key.ts';
import type { Digest } from '../../../shim/base/digest.ts';
import { ConsumerPace, paceForMemory } from '../../../shim/swarm/consumer-pace.ts';
import { CHUNK_SIZE_BYTES, DEFAULT_LIMITS } from '../../../shim/swarm/limits.ts';
import { SwarmNode } from '../../../shim/swarm/swarm-node.ts';
import { World } from '../../sim/world.ts';
import type { WorldOptions } from '../../sim/world-options.ts';

const MB = 1_000_000;
const limits = { ...DEFAULT_LIMITS, aheadChunks: 100, aheadChunksMin: 10 };

test('ConsumerPace: consumers at work share what may be ahead of them, the others get the least', () => {
  const pace = new ConsumerPace(limits);
  assert.is(pace.aheadChunks('unknown', false), Number.POSITIVE_INFINITY);
  for (const keyId of ['a', 'b', 'c']) pace.setConsumer(keyId, false);
  assert.equal(
    ['a', 'b', 'c'].map((keyId) => pace.aheadChunks(keyId, false)),
    [100, 10, 10],
  );
  pace.setConsumer('a', true);
  pace.setConsumer('b', true);
  pace.setConsumer('b', false);
  assert.equal(
    ['a', 'b', 'c'].map((keyId) => pace.aheadChunks(keyId, false)),
    [50, 50, 10],
  );
  pace.end('a');
  pace.end('a');
  assert.equal(
    ['b', 'c'].map((keyId) => pace.aheadChunks(keyId, false)),
    [100, 10],
  );
  assert.is(pace.aheadChunks('b', true), 200);
  pace.end('b');
  assert.is(pace.aheadChunks('c', false), 100);
});

const base: WorldOptions = {
  nodes: 8,
  blobSizesBytes: [200 * MB, 200 * MB],
  seed: 1,
  upBytesPerSecond: 125 * MB,
  downBytesPerSecond: 125 * MB,
  originBytesPerSecond: 125 * MB,
  latencyMs: 0.5,
  originLatencyMs: 5,
  startSpreadMs: 100,
};
const slowUnpacking = {
  diskBytesPerSecond: 1000 * MB,
  cores: 1,
  costs: { receiveSecondsPerGb: 0, serveSecondsPerGb: 0, unpackSecondsPerGb: 30 },
  unpackedOverPacked: 1,
  pageCacheBytes: 1000 * MB,
  dirtyBytes: 128 * MB,
  unpackWorkers: 1,
};

test('SwarmNode: a node fetches no further ahead of unpacking than it may, and pulls end all the same', () => {
  const aheadChunks = 20;
  let mostAhead = 0;
  const world = new World({ ...base, machine: slowUnpacking, limits: { aheadChunks, aheadChunksMin: 5 } }, [
    {
      onStored: (node, blob) => {
        const stored = node.stored.get(blob);
        if (stored !== undefined) mostAhead = Math.max(mostAhead, stored.held - stored.unpacked);
      },
    },
  ]);
  assert.ok(world.run(60_000), `${world.nodes.filter(({ doneMs }) => doneMs === undefined).length} not done`);
  // A lease that begins within the window may reach beyond it.
  const most = 2 * aheadChunks + DEFAULT_LIMITS.leaseChunks;
  assert.ok(mostAhead > aheadChunks / 2 && mostAhead < most, `${mostAhead}`);
  assert.is(world.counts.originBytes, 400 * MB);
  const took = Math.max(...world.secondsTaken());
  assert.ok(took <= 1.15 * 12, `unpacking alone takes 12 s, all took ${took}`);
});

test('SwarmNode: a pull that waits for its consumer for long is not stalled: it reads nothing by itself', () => {
  const key: BlobKey = { host: 'registry.test', digest: `sha256:${'1'.repeat(64)}` as Digest };
  const sizeBytes = 100 * CHUNK_SIZE_BYTES;
  const options = { self: 'self:1', zone: 'z', seed: 1, mayReadOrigin: true };
  const node = new SwarmNode({ ...options, limits: { aheadChunks: 8, aheadChunksMin: 8 } });
  node.handleMembers([], 0);
  node.join({ key, sizeBytes, held: undefined, hashes: [] }, 0);
  node.setConsumer(key, { nextByte: 0, setsPace: true }, 0);
  const read = new Set<number>();
  const runUntil = (untilMs: number): void => {
    for (let nowMs = 0; nowMs <= untilMs; nowMs = node.nextWakeupMs() ?? Number.POSITIVE_INFINITY) {
      node.handleTimeout(Math.max(nowMs, 0));
      for (let action = node.pollAction(); action !== undefined; action = node.pollAction()) {
        if (action.kind !== 'readOrigin') continue;
        const { firstChunk, chunkCount } = action.run;
        for (let chunk = firstChunk; chunk < firstChunk + chunkCount; chunk++) {
          read.add(chunk);
          node.handleOriginChunk(key, chunk, new Uint8Array(32).fill(chunk), nowMs);
        }
        node.handleOriginEnd(key, action.run, { ok: true }, nowMs);
      }
    }
  };
  runUntil(200_000);
  const most = Math.max(...read);
  assert.ok(most >= 7 && most < 2 * 8 + DEFAULT_LIMITS.leaseChunksAlone, `read up to ${most}`);
  assert.is(node.waitOf(key, 200_000), 'leave');
  node.setConsumer(key, { nextByte: sizeBytes / 2, setsPace: true }, 200_000);
  assert.is(node.waitOf(key, 200_000), 'none');
});

test('paceForMemory() lets a machine with much memory fetch further ahead, and none less than by default', () => {
  const { aheadChunks, aheadChunksMin } = DEFAULT_LIMITS;
  assert.equal(paceForMemory(2 ** 29), { aheadChunks, aheadChunksMin });
  assert.equal(paceForMemory(2 ** 30), { aheadChunks, aheadChunksMin });
  assert.equal(paceForMemory(8 * 2 ** 30), {
    aheadChunks: 8 * aheadChunks,
    aheadChunksMin: 8 * aheadChunksMin,
  });
});

test.run();
