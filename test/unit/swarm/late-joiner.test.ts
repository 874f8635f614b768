import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DEFAULT_LIMITS } from '../../../shim/swarm/limits.ts';
import { World } from '../../sim/world.ts';
import type { Fault } from '../../sim/world-options.ts';

const MB = 1_000_000;
const NODES = Array.from({ length: 5 }, (_, index) => index);
/** What a late node may take to find a seed, and to get a small blob from it, ms. */
const FOUND_WITHIN_MS = DEFAULT_LIMITS.announceIntervalMs * 1.2;

interface Case {
  readonly seedNode: number;
  readonly late: number;
  /** Start of the late node, ms. */
  readonly startMs: number;
  readonly faults: readonly Fault[];
}

/** Who is late may not read the origin, so it depends on finding the seed. */
function expectFound({ seedNode, late, startMs, faults }: Case): void {
  const world = new World({
    nodes: NODES.length,
    blobSizesBytes: [10 * MB],
    seed: 1,
    upBytesPerSecond: 1000 * MB,
    downBytesPerSecond: 1000 * MB,
    originBytesPerSecond: 25 * MB,
    latencyMs: 0.2,
    originLatencyMs: 5,
    startSpreadMs: 1,
    seeds: [seedNode],
    idle: NODES.filter((node) => node !== seedNode && node !== late),
    mayNotReadOrigin: [late],
    startMs: new Map([[late, startMs]]),
    faults,
  });
  world.run(200_000);
  const node = world.nodes[late];
  const tookMs = (node?.doneMs ?? Number.POSITIVE_INFINITY) - (node?.startMs ?? 0);
  const what = `seed ${seedNode}, late ${late}, ${JSON.stringify(faults)}`;
  assert.ok(tookMs <= FOUND_WITHIN_MS, `${what}: took ${tookMs} ms`);
  assert.is(world.counts.originBytes, 0, `${what}: the origin was read`);
}

/** Every choice of seed, late node and a third one: each of them is the directory in some. */
function forEachTriple(body: (seedNode: number, late: number, third: number) => void): void {
  for (const seedNode of NODES)
    for (const late of NODES)
      for (const third of NODES)
        if (seedNode !== late && seedNode !== third && late !== third) body(seedNode, late, third);
}

test('SwarmNode: a late node finds the seed although a directory died', () => {
  forEachTriple((seedNode, late, dead) => {
    expectFound({ seedNode, late, startMs: 30_000, faults: [{ kind: 'crash', atMs: 1000, node: dead }] });
  });
});

test('SwarmNode: a late node finds the seed although a directory came back and remembers nothing', () => {
  forEachTriple((seedNode, late, reborn) => {
    const faults: Fault[] = [
      { kind: 'crash', atMs: 1000, node: reborn },
      { kind: 'restart', atMs: 60_000, node: reborn },
    ];
    expectFound({ seedNode, late, startMs: 60_100, faults });
  });
});

test('SwarmNode: a late node finds the seed although it was the directory itself, and forgot', () => {
  forEachTriple((seedNode, late) => {
    const faults: Fault[] = [
      { kind: 'crash', atMs: 1000, node: late },
      { kind: 'restart', atMs: 60_000, node: late },
    ];
    expectFound({ seedNode, late, startMs: 60_000, faults });
  });
});

test('SwarmNode: a late node finds the seed although connections were lost for a while', () => {
  forEachTriple((seedNode, late, node) => {
    const fault: Fault = { kind: 'partition', atMs: 1000, untilMs: 1500, node };
    expectFound({ seedNode, late, startMs: 10_000, faults: [fault] });
  });
});

test.run();
