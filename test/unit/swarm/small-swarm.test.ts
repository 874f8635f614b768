import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bitmap } from '../../../shim/swarm/bitmap.ts';
import { pickRarest } from '../../../shim/swarm/chunk-picker.ts';
import { Prng } from '../../../shim/swarm/prng.ts';
import type { Observer } from '../../sim/observer.ts';
import { runScenario, type ScenarioResult } from '../../sim/run-scenario.ts';
import { SCENARIOS, type Scenario } from '../../sim/scenarios.ts';
import type { Fault } from '../../sim/world-options.ts';

const MB = 1_000_000;
const IMAGE_BYTES = 208 * MB;
/** 100 Mbit/s. */
const SLOW_LINK = 12.5 * MB;
const BURST = SCENARIOS.find(({ name }) => name === 'burst') as Scenario;

interface Small {
  readonly originLinks: number;
  readonly nodes?: number;
  readonly layers?: number;
  readonly seed?: number;
  readonly observer?: Observer;
}

function runSmall({ originLinks, nodes = 8, layers = 1, seed = 1, observer = {} }: Small): ScenarioResult {
  return runScenario(BURST, {
    seed,
    size: { nodes, imageBytes: IMAGE_BYTES },
    overrides: {
      blobSizesBytes: Array<number>(layers).fill(IMAGE_BYTES / layers),
      startSpreadMs: 50,
      upBytesPerSecond: SLOW_LINK,
      downBytesPerSecond: SLOW_LINK,
      originBytesPerSecond: originLinks * SLOW_LINK,
    },
    observers: [observer],
  });
}

test('eight nodes on slow links read nothing twice at an origin of one of them', () => {
  const { originOverImage, p95OverBound } = runSmall({ originLinks: 1 });
  assert.is(originOverImage, 1);
  assert.ok(p95OverBound <= 1.2, `${p95OverBound}`);
});

test('eight nodes on slow links have the first chunk soon, for consumers wait for it', () => {
  let lastMs = 0;
  const observer: Observer = {
    onStored: (_node, _blob, chunk, nowMs) => {
      if (chunk === 0) lastMs = Math.max(lastMs, nowMs);
    },
  };
  const { p95OverBound } = runSmall({ originLinks: 2, observer });
  assert.ok(lastMs > 0 && lastMs <= 2_500, `${lastMs}`);
  assert.ok(p95OverBound <= 1.08, `${p95OverBound}`);
});

test('nodes that are too busy to announce before the first chunk of a slow origin read nothing twice', () => {
  const nodes = 16;
  const link = 3.1 * MB;
  const faults = Array.from({ length: nodes }, (_, node): Fault => {
    const atMs = 1_000 + 100 * node;
    return { kind: 'freeze', node, atMs, untilMs: atMs + 3_000 };
  });
  for (const seed of [1, 2, 3]) {
    const { originOverImage } = runScenario(BURST, {
      seed,
      size: { nodes, imageBytes: IMAGE_BYTES },
      overrides: {
        blobSizesBytes: Array<number>(4).fill(IMAGE_BYTES / 4),
        startSpreadMs: 200,
        upBytesPerSecond: link,
        downBytesPerSecond: link,
        originBytesPerSecond: 2 * link,
        faults,
      },
    });
    assert.is(originOverImage, 1, `seed ${seed}`);
  }
});

test('nodes on slow links have something to pass on soon, whatever the number of layers', () => {
  for (const nodes of [4, 8, 16, 24]) {
    const { p95OverBound } = runSmall({ originLinks: 2, nodes, layers: 5 });
    assert.ok(p95OverBound <= 1.15, `${nodes} nodes: ${p95OverBound}`);
  }
});

test('who was left for having nothing new is followed again before long, where there are few', () => {
  for (let seed = 1; seed <= 4; seed++) {
    const { p95Seconds } = runScenario(BURST, {
      seed,
      size: { nodes: 31, imageBytes: 20 * MB },
      overrides: {
        blobSizesBytes: Array<number>(12).fill(1_666_666),
        startSpreadMs: 0,
        upBytesPerSecond: SLOW_LINK,
        downBytesPerSecond: SLOW_LINK,
        originBytesPerSecond: 2 * SLOW_LINK,
      },
    });
    assert.ok(p95Seconds <= 6, `seed ${seed}: ${p95Seconds} s`);
  }
});

test('no node reads much more of a blob at the origin than others', () => {
  const bytes = new Map<unknown, number>();
  const observer: Observer = {
    onOriginBytes: (node, _blob, sizeBytes) => bytes.set(node, (bytes.get(node) ?? 0) + sizeBytes),
  };
  runScenario(BURST, { seed: 1, size: { nodes: 60, imageBytes: 500 * MB }, observers: [observer] });
  assert.ok(Math.max(...bytes.values()) <= 0.08 * 500 * MB, `${Math.max(...bytes.values())}`);
});

test('pickRarest() takes what fewest have, each of these as often', () => {
  const prng = new Prng(3);
  const open = new Bitmap(70);
  for (const index of [1, 33, 34, 60, 69]) open.add(index);
  const available = Bitmap.full(70);
  available.delete(1);
  const copies = new Uint8Array(70).fill(5);
  copies[1] = 1;
  copies[33] = 2;
  copies[60] = 2;
  const counts = new Map<number | undefined, number>();
  for (let turn = 0; turn < 400; turn++) {
    const picked = pickRarest(open, available, { from: 0, to: 70, copies }, prng);
    counts.set(picked, (counts.get(picked) ?? 0) + 1);
  }
  assert.equal([...counts.keys()].sort(), [33, 60]);
  for (const count of counts.values()) assert.ok(count > 150, `${count}`);
  assert.is(pickRarest(open, available, { from: 61, to: 69, copies }, prng), undefined);
});

test.run();
