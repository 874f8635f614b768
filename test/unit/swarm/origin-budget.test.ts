import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { BlobKey } from '../../../shim/base/blob-key.ts';
import type { Digest } from '../../../shim/base/digest.ts';
import type { OriginLimits } from '../../../shim/swarm/budget-bucket.ts';
import { BudgetedReads, type OriginReading } from '../../../shim/swarm/budgeted-reads.ts';
import { CHUNK_SIZE_BYTES } from '../../../shim/swarm/limits.ts';
import { rankByRendezvous } from '../../../shim/swarm/rendezvous.ts';
import { SwarmNode } from '../../../shim/swarm/swarm-node.ts';
import { makeCheckers } from '../../sim/checkers/checkers.ts';
import { OriginLimitsChecker } from '../../sim/checkers/origin-limits.ts';
import { runScenario } from '../../sim/run-scenario.ts';
import { SCENARIOS, type Scenario } from '../../sim/scenarios.ts';
import { peerIndex, peerName } from '../../sim/sim-node.ts';
import { World } from '../../sim/world.ts';
import type { WorldOptions } from '../../sim/world-options.ts';

const MB = 1e6;
const key: BlobKey = { host: 'registry.test', digest: `sha256:${'1'.repeat(64)}` as Digest };
const EIGHT_MB: OriginLimits = { bytesPerSecond: 8 * MB, requestsPerSecond: 0 };

/** A blob of ten chunks, the last one short, of which these chunks are left out. */
class SampleReading implements OriginReading {
  readonly key = key;
  readonly keyId = 'blob';
  readonly sizeBytes = 9 * CHUNK_SIZE_BYTES + 1;
  readonly unwanted = new Set<number>();
  readonly leftOut: number[] = [];

  isToBeRead(chunk: number): boolean {
    return !this.unwanted.has(chunk);
  }

  leaveOut(chunk: number): void {
    this.leftOut.push(chunk);
  }

  handleEnd(): void {}
}

test('BudgetedReads: a run is read in parts as large as their grants, without what is left out', () => {
  const limits = { bytesPerSecond: 16 * CHUNK_SIZE_BYTES, requestsPerSecond: 0 };
  const reads = new BudgetedReads(limits, 2);
  const reading = new SampleReading();
  reads.add(reading, { firstChunk: 0, chunkCount: 10 });
  assert.equal(reads.next(), { bytes: 4 * CHUNK_SIZE_BYTES, requests: 1 });
  assert.equal(reads.begin({ bytes: 2.5 * CHUNK_SIZE_BYTES, requests: 1 })?.part, {
    firstChunk: 0,
    chunkCount: 2,
  });
  reading.unwanted.add(2).add(5);
  assert.equal(reads.next(), { bytes: 2 * CHUNK_SIZE_BYTES, requests: 1 });
  assert.equal(reads.begin({ bytes: 1, requests: 1 })?.part, { firstChunk: 3, chunkCount: 1 });
  assert.is(reads.next(), undefined, 'two are being read');
  assert.ok(reads.endPart('blob', { firstChunk: 0, chunkCount: 2 }));
  assert.equal(reads.begin({ bytes: 9 * CHUNK_SIZE_BYTES, requests: 1 })?.part, {
    firstChunk: 4,
    chunkCount: 1,
  });
  assert.ok(reads.endPart('blob', { firstChunk: 3, chunkCount: 1 }));
  assert.ok(reads.endPart('blob', { firstChunk: 4, chunkCount: 1 }));
  assert.equal(reads.next(), { bytes: 3 * CHUNK_SIZE_BYTES + 1, requests: 1 });
  assert.equal(reading.leftOut, [2, 5]);
});

test('BudgetedReads: a run is finished when its parts have ended and the rest is left out', () => {
  const reads = new BudgetedReads(EIGHT_MB, 2);
  const reading = new SampleReading();
  reads.add(reading, { firstChunk: 0, chunkCount: 2 });
  reads.begin({ bytes: CHUNK_SIZE_BYTES, requests: 1 });
  reading.unwanted.add(1);
  assert.equal(reads.finished(), []);
  assert.is(reads.endPart('other', { firstChunk: 0, chunkCount: 1 }), undefined);
  assert.ok(reads.endPart('blob', { firstChunk: 0, chunkCount: 1 }));
  assert.is(reads.finished().length, 1);
});

test('SwarmNode: without limits it reads runs as a whole, and grants what others ask', () => {
  const node = new SwarmNode({ self: 'self:1', zone: '', seed: 1, mayReadOrigin: true });
  node.handleMembers([], 0);
  node.handleConnected('other:1', { zone: '' }, 0);
  node.join({ key, sizeBytes: 20 * CHUNK_SIZE_BYTES, held: undefined, hashes: [] }, 0);
  node.handleMessage(
    'other:1',
    { kind: 'askBudget', host: key.host, number: 3, bytes: 5, requests: 1, isMoving: false },
    0,
  );
  const runs: number[] = [];
  const grants: number[] = [];
  for (let action = node.pollAction(); action !== undefined; action = node.pollAction()) {
    if (action.kind === 'readOrigin') runs.push(action.run.chunkCount);
    if (action.kind === 'send' && action.message.kind === 'grantBudget') grants.push(action.message.bytes);
  }
  assert.is(runs[0], 16);
  assert.equal(grants, [5]);
});

const base: WorldOptions = {
  nodes: 8,
  blobSizesBytes: [40 * MB],
  seed: 1,
  upBytesPerSecond: 125 * MB,
  downBytesPerSecond: 125 * MB,
  originBytesPerSecond: 1000 * MB,
  latencyMs: 0.5,
  originLatencyMs: 5,
  startSpreadMs: 100,
  originLimits: EIGHT_MB,
};
/** Nodes in the order in which they keep the budget. */
const KEEPERS = rankByRendezvous(
  key.host,
  Array.from({ length: base.nodes }, (_, index) => peerName(index)),
  3,
).map(peerIndex);

interface Finished {
  readonly world: World;
  readonly seconds: number;
  readonly limits: OriginLimitsChecker;
}

/** Runs to the end, under all checkers. */
function finish(options: Partial<WorldOptions>): Finished {
  const all = { ...base, ...options };
  const limits = new OriginLimitsChecker(all, all.originLimits ?? EIGHT_MB);
  const world = new World(all, [...makeCheckers(all), limits]);
  assert.ok(world.run(400_000), 'some pulls never ended');
  return { world, seconds: Math.max(...world.secondsTaken()), limits };
}

/** Each node wants a blob that no other one wants. */
function blobsOfTheirOwn(sizeBytes: number): Partial<WorldOptions> {
  const all = Array.from({ length: base.nodes }, (_, blob) => blob);
  return {
    blobSizesBytes: all.map(() => sizeBytes),
    unwanted: new Map(all.map((node) => [node, all.filter((blob) => blob !== node)])),
  };
}

test('SwarmNode: a lone node reads at its limit', () => {
  const { seconds, limits } = finish({ nodes: 1 });
  assert.ok(seconds >= 4.5 && seconds <= 40 / 8 / 0.9, `${seconds} s`);
  assert.ok(limits.bytesShare <= 1.03);
});

test('SwarmNode: a node whose budget another one keeps, far away, reads at the limit', () => {
  const all = Array.from({ length: base.nodes }, (_, node) => node);
  const taker = all.find((node) => !KEEPERS.includes(node));
  const idle = all.filter((node) => node !== taker);
  const { seconds } = finish({ idle, latencyMs: 30 });
  assert.ok(seconds >= 4.5 && seconds <= 40 / 8 / 0.9, `${seconds} s`);
});

test('SwarmNode: nodes that want the same share what the limit allows, without reading twice', () => {
  const { seconds, world } = finish({});
  assert.ok(seconds <= (40 / 8) * 1.15, `${seconds} s`);
  assert.is(world.counts.originBytes, 40 * MB);
});

test('SwarmNode: nodes that want different blobs take turns', () => {
  const { world, limits } = finish(blobsOfTheirOwn(20 * MB));
  const seconds = world.secondsTaken();
  assert.ok(Math.min(...seconds) >= 0.85 * Math.max(...seconds), seconds.join(' '));
  assert.ok(limits.bytesShare >= 0.97 && limits.bytesShare <= 1.1, `${limits.bytesShare}`);
});

test('SwarmNode: a limit of requests holds as one of bytes does', () => {
  const originLimits = { bytesPerSecond: 0, requestsPerSecond: 5 };
  const { world, limits, seconds } = finish({ ...blobsOfTheirOwn(60 * MB), originLimits });
  assert.ok(limits.requestsShare > 0.95 && limits.requestsShare <= 1.1, `${limits.requestsShare}`);
  // Runs of four chunks, and of what is left.
  assert.ok(
    world.counts.originRequests <= 8 * 9 && seconds >= 10,
    `${world.counts.originRequests} in ${seconds} s`,
  );
});

test('SwarmNode: one keeper after another dies, and the limit holds and is used', () => {
  const faults = [0, 1].map((turn) => ({
    kind: 'crash' as const,
    atMs: 6_000 * (turn + 1),
    node: KEEPERS[turn] ?? 0,
  }));
  const { world, limits, seconds } = finish({ ...blobsOfTheirOwn(20 * MB), faults });
  assert.ok(limits.bytesShare >= 0.9 && limits.bytesShare <= 1.1, `${limits.bytesShare}`);
  // Each takeover costs a second.
  assert.ok(seconds <= world.counts.originBytes / (8 * MB) + 3, `${seconds} s`);
});

test('SwarmNode: a keeper that comes back is the keeper again, and the limit holds', () => {
  const [node = 0] = KEEPERS;
  const faults = [
    { kind: 'crash' as const, atMs: 5_000, node },
    { kind: 'restart' as const, atMs: 9_000, node },
  ];
  const { limits, world } = finish({ ...blobsOfTheirOwn(20 * MB), faults });
  assert.ok(limits.bytesShare <= 1.1, `${limits.bytesShare}`);
  assert.ok((world.notes.get('budgetKept') ?? 0) >= 3);
});

test('SwarmNode: a keeper that falls silent costs a few seconds', () => {
  const faults = [{ kind: 'freeze' as const, atMs: 5_000, untilMs: 300_000, node: KEEPERS[0] ?? 0 }];
  const idle = [KEEPERS[0] ?? 0];
  const { seconds, limits } = finish({ ...blobsOfTheirOwn(20 * MB), faults, idle });
  assert.ok(seconds <= (7 * 20) / 8 + 6, `${seconds} s`);
  assert.ok(limits.bytesShare <= 1.1, `${limits.bytesShare}`);
});

test('SwarmNode: a partition may read as much as the limit on each side, no more', () => {
  const faults = [{ kind: 'partition' as const, atMs: 3_000, untilMs: 15_000, node: 4 }];
  const { limits } = finish({ ...blobsOfTheirOwn(40 * MB), faults });
  assert.ok(limits.bytesShare > 1.2 && limits.bytesShare <= 2.1, `${limits.bytesShare}`);
});

test('SwarmNode: who waits for what another node waits to read is not starved, and it is read once', () => {
  const blobSizesBytes = [8 * MB, ...Array.from({ length: 6 }, () => 16 * MB)];
  // Node 0 has the only lease of the first blob when node 1 begins to want it; the others want one blob each.
  const wish = (node: number) => Math.max(0, node - 1);
  const unwanted = new Map(
    Array.from({ length: base.nodes }, (_, node) => [
      node,
      [0, 1, 2, 3, 4, 5, 6].filter((blob) => blob !== wish(node)),
    ]),
  );
  const startMs = new Map([
    [0, 0],
    [1, 1_000],
  ]);
  const originLimits = { bytesPerSecond: 1 * MB, requestsPerSecond: 0 };
  const { world } = finish({ blobSizesBytes, unwanted, startMs, originLimits, limits: { starvedMs: 3_000 } });
  assert.is(world.counts.originBytes, 104 * MB);
});

test('SwarmNode: what a neighbour offers and never gives is read within the budget', () => {
  const faults = [{ kind: 'busy' as const, atMs: 0, node: 0 }];
  const { world } = finish({ nodes: 3, blobSizesBytes: [8 * MB], seeds: [0], faults });
  assert.ok(world.counts.originBytes >= 8 * MB);
});

test('SwarmNode: all of it holds while keepers and directories die', () => {
  const scenario = SCENARIOS.find(({ name }) => name === 'budget') as Scenario;
  const result = runScenario(scenario, { seed: 2, size: { nodes: 40, imageBytes: 500 * MB } });
  assert.ok(result.isDone);
  assert.equal(
    result.misses.filter((miss) => !miss.startsWith('p95OverBound')),
    [],
  );
  assert.ok(result.p95OverBound <= 1.2, `${result.p95OverBound}`);
});

test.run();
