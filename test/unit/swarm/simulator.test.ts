import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CapsChecker } from '../../sim/checkers/caps.ts';
import { OriginBudgetChecker } from '../../sim/checkers/origin-budget.ts';
import { RightsChecker } from '../../sim/checkers/rights.ts';
import { VerifiedChecker } from '../../sim/checkers/verified.ts';
import { WantedChecker } from '../../sim/checkers/wanted.ts';
import { EventHeap } from '../../sim/event-heap.ts';
import { FairLink } from '../../sim/fair-link.ts';
import type { Observer } from '../../sim/observer.ts';
import { runScenario } from '../../sim/run-scenario.ts';
import { SCENARIOS, type Scenario } from '../../sim/scenarios.ts';
import { SimClock } from '../../sim/sim-clock.ts';
import { SimMachine } from '../../sim/sim-machine.ts';
import { World } from '../../sim/world.ts';
import type { WorldOptions } from '../../sim/world-options.ts';

const MB = 1_000_000;

const base: WorldOptions = {
  nodes: 6,
  blobSizesBytes: [40 * MB],
  seed: 1,
  upBytesPerSecond: 125 * MB,
  downBytesPerSecond: 125 * MB,
  originBytesPerSecond: 125 * MB,
  latencyMs: 0.5,
  originLatencyMs: 5,
  startSpreadMs: 10,
};

function scenario(name: string): Scenario {
  return SCENARIOS.find((each) => each.name === name) as Scenario;
}

function runWith(options: Partial<WorldOptions>, checker: (options: WorldOptions) => Observer): World {
  const all = { ...base, ...options };
  const world = new World(all, [checker(all)]);
  world.run(60_000);
  return world;
}

test('EventHeap: events come by time, those of one instant in the order in which they went in', () => {
  const heap = new EventHeap<number>();
  for (let index = 0; index < 3000; index++) heap.push((index * 7919) % 50, index);
  let last = { atMs: -1, index: -1 };
  for (let count = 0; count < 3000; count++) {
    const atMs = heap.nextMs as number;
    const index = heap.pop() as number;
    assert.ok(atMs > last.atMs || (atMs === last.atMs && index > last.index));
    last = { atMs, index };
  }
  assert.is(heap.pop(), undefined);
});

test('FairLink: flows share the rate, and who stays gets what others leave', () => {
  const link = new FairLink<string>(1000);
  link.add('long', 1000, 0);
  link.add('short', 250, 0);
  assert.is(link.nextEndMs(), 500);
  assert.is(link.takeEnded(500), 'short');
  assert.is(link.nextEndMs(), 1250);
  link.setRate(500, 750);
  assert.is(link.nextEndMs(), 1750);
  link.remove('long', 800);
  assert.is(link.nextEndMs(), Number.POSITIVE_INFINITY);
});

test('SimClock: a jump and another rate never turn time back', () => {
  const clock = new SimClock(0);
  let lastMs = -1;
  for (let worldMs = 0; worldMs < 1000; worldMs += 10) {
    if (worldMs === 500) clock.skew({ jumpMs: 100, percent: -10 }, worldMs);
    assert.ok(clock.localMs(worldMs) > lastMs);
    lastMs = clock.localMs(worldMs);
    assert.ok(clock.localMs(clock.worldMs(lastMs)) >= lastMs);
  }
  assert.ok(Math.abs(clock.localMs(1000) - (600 + 450)) < 1e-6);
});

test('SimMachine: a chunk waits for the processor, then for the disk; what was written last is read without it', () => {
  const costs = { receiveSecondsPerGb: 1, serveSecondsPerGb: 0, unpackSecondsPerGb: 0 };
  const model = { diskBytesPerSecond: 100 * MB, cores: 1, costs, unpackedOverPacked: 1 };
  const machine = new SimMachine({ ...model, pageCacheBytes: 150 * MB, dirtyBytes: 0 });
  assert.is(Math.round(machine.store(100 * MB, 0)), 1100);
  const pages = { touchedAt: Float64Array.of(100 * MB, 0), chunk: 0 };
  assert.is(Math.round(machine.load(100 * MB, pages, 2000)), 2000);
  machine.store(100 * MB, 2000);
  assert.is(Math.round(machine.load(100 * MB, { ...pages, chunk: 1 }, 4000)), 5000);
});

test('checkers: what a swarm must not do is found', () => {
  const world = new World(base);
  const [one, other] = world.nodes as unknown as [never, never];
  const [blob] = world.blobs as unknown as [never];
  const served = { from: one, to: other, blob, chunk: 0, bytes: 0 };
  assert.throws(() => new VerifiedChecker().onServe(served), /without having it/);
  assert.throws(() => new RightsChecker({ ...base, withoutRight: [1] }).onServe(served), /may not read/);
  assert.throws(() => new WantedChecker({ ...base, idle: [0] }).onStored(one, blob), /does not want/);
  const budget = new OriginBudgetChecker(base);
  budget.onOriginBytes(one, blob, 40 * MB, 0);
  assert.throws(() => budget.onOriginBytes(one, blob, 40 * MB, 0), /more than 1.05 copies/);
});

test('checkers: a limit that a node exceeds is found', () => {
  const strict = (options: WorldOptions) => new CapsChecker({ ...options, limits: { neighboursMax: 1 } });
  assert.throws(
    () => runWith({ nodes: 12, blobSizesBytes: [400 * MB] }, strict),
    /neighbours, 1 is the most/,
  );
});

test('SwarmNode: who has no right to a blob gets none of it, from peers or origin', () => {
  const world = runWith({ withoutRight: [2] }, (options) => new RightsChecker(options));
  assert.is(world.nodes[2]?.stored.get(world.blobs[0] as never)?.held, 0);
  assert.is(world.nodes.filter(({ doneMs }) => doneMs !== undefined).length, 5);
});

test('SwarmNode: each chunk crosses into a zone once', () => {
  const result = runScenario(scenario('zones'), { seed: 1, size: { nodes: 30, imageBytes: 200 * MB } });
  const crossed = result.extras.find(({ name }) => name === 'crossZoneOverImage')?.value ?? Number.NaN;
  assert.ok(result.isDone && crossed >= 1.99 && crossed <= 2.2, `crossed ${crossed}`);
  assert.ok(result.originOverImage <= 1.01, `origin ${result.originOverImage}`);
});

test('SwarmNode: an origin that answers 429 is asked within its limit', () => {
  const result = runScenario(scenario('rate-limit'), { seed: 1, size: { nodes: 60, imageBytes: 300 * MB } });
  assert.ok(result.isDone);
  assert.ok((result.extras[0]?.value ?? Number.NaN) <= 1.05, `requests ${result.extras[0]?.value}`);
});

test('SwarmNode: a crowd stays near what links allow, whatever its size', () => {
  for (const [nodes, most] of [
    [10, 1.1],
    [60, 1.12],
  ] as const) {
    const result = runScenario(scenario('burst'), { seed: 1, size: { nodes, imageBytes: 500 * MB } });
    assert.ok(result.p95OverBound <= most, `${nodes} nodes: ${result.p95OverBound}`);
    assert.ok(result.originOverImage <= 1.01);
  }
});

test('SwarmNode: a blob larger than its window is read to the end without a rest', () => {
  const result = runScenario(scenario('burst'), {
    seed: 1,
    size: { nodes: 10, imageBytes: 500 * MB },
    overrides: { limits: { windowChunks: 64 } },
  });
  assert.ok(result.p95OverBound <= 1.15, `${result.p95OverBound}`);
});

test('SwarmNode: who is ahead of the others does not read the rest of a blob alone', () => {
  const result = runScenario(scenario('slow-uplinks'), {
    seed: 2,
    size: { nodes: 60, imageBytes: 1000 * MB },
    overrides: { limits: { windowChunks: 64 } },
  });
  assert.ok(result.p95OverBound <= 1.15, `${result.p95OverBound}`);
});

test('SwarmNode: an origin that takes half a minute for a chunk is not mistaken for one that is lost', () => {
  const size = { nodes: 40, imageBytes: 200 * MB };
  const overrides = {
    originBytesPerSecond: 0.5 * MB,
    upBytesPerSecond: 12.5 * MB,
    downBytesPerSecond: 12.5 * MB,
  };
  const result = runScenario(scenario('burst'), { seed: 1, size, overrides });
  assert.ok(result.p95OverBound <= 1.05, `${result.p95OverBound}`);
  assert.ok(result.originOverImage <= 1.01, `${result.originOverImage}`);
});

test('nodes that want nothing are counted with what they send: they keep the directory', () => {
  const world = new World({ ...base, nodes: 12, idle: [4, 5, 6, 7, 8, 9, 10, 11] });
  assert.ok(world.run(60_000));
  assert.ok(world.counts.idleBytes > 0);
  assert.ok(world.counts.idleBytes < 40 * MB, `${world.counts.idleBytes}: messages alone, no layers`);
});

test.run();
