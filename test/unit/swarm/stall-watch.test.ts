import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isBehindOthers, type StallSight, StallWatch } from '../../../shim/swarm/stall-watch.ts';

interface Pull {
  readonly name: string;
  isUnderWay: boolean;
}

const LIMIT_MS = 5_000;
const TICK_MS = 100;
const OFFERED: StallSight = { hasOpen: true, hasRequests: false, isReading: false };
const MOVING: StallSight = { hasOpen: true, hasRequests: true, isReading: false };
const NOTHING: StallSight = { hasOpen: false, hasRequests: false, isReading: false };

/** A watch that has seen each of these for so long, ms, and the time by then. */
function watchAfter(...parts: readonly (readonly [sight: StallSight, ms: number])[]) {
  const watch = new StallWatch(LIMIT_MS);
  let nowMs = 0;
  for (const [sight, ms] of parts) {
    for (const endMs = nowMs + ms; nowMs < endMs; nowMs += TICK_MS) watch.handleTick(sight, nowMs);
  }
  return { watch, nowMs };
}

function isStalledAfter(...parts: readonly (readonly [sight: StallSight, ms: number])[]): boolean {
  const { watch, nowMs } = watchAfter(...parts);
  return watch.isStalled(nowMs);
}

test('StallWatch: chunks that are offered while none is on its way are a stall after the limit', () => {
  assert.not(isStalledAfter([OFFERED, LIMIT_MS - TICK_MS]));
  assert.ok(isStalledAfter([OFFERED, LIMIT_MS]));
  assert.not(isStalledAfter([NOTHING, 10 * LIMIT_MS]));
  assert.not(isStalledAfter([OFFERED, LIMIT_MS - TICK_MS], [MOVING, TICK_MS], [OFFERED, LIMIT_MS - TICK_MS]));
});

test('StallWatch: a moment between two requests does not count for as long as a read lasts', () => {
  const reading = { ...NOTHING, isReading: true };
  assert.not(isStalledAfter([{ ...OFFERED, isReading: true }, TICK_MS], [reading, 10 * LIMIT_MS]));
});

test('StallWatch: peers that are busy are given four chunk times, within four times as long as any others', () => {
  const busyFor = (ms: number, chunkMs: number): boolean => {
    const watch = new StallWatch(LIMIT_MS);
    for (let nowMs = 0; nowMs <= ms; nowMs += TICK_MS) {
      watch.handleBusy(chunkMs, nowMs);
      watch.handleTick(OFFERED, nowMs);
    }
    return watch.isStalled(ms);
  };
  for (const [chunkMs, limitMs] of [
    [0, 4 * LIMIT_MS],
    [50, LIMIT_MS],
    [2_000, 8_000],
    [60_000, 4 * LIMIT_MS],
  ] as const) {
    assert.not(busyFor(limitMs - TICK_MS, chunkMs), `${chunkMs}`);
    assert.ok(busyFor(limitMs, chunkMs), `${chunkMs}`);
  }
  const { watch, nowMs } = watchAfter([OFFERED, LIMIT_MS]);
  watch.handleBusy(0, nowMs - 1_000);
  assert.ok(watch.isStalled(nowMs), 'what was said a second ago no longer counts');
});

test('StallWatch: a stall outlasts the chunk that its cure brings, and ends when peers send again', () => {
  const cured = { ...NOTHING, isReading: true };
  assert.ok(isStalledAfter([OFFERED, LIMIT_MS], [cured, 1_000]));
  assert.not(isStalledAfter([OFFERED, LIMIT_MS], [cured, 1_000], [NOTHING, TICK_MS]));
  assert.ok(isStalledAfter([OFFERED, LIMIT_MS], [{ ...MOVING, isReading: true }, 500]));
  assert.not(isStalledAfter([OFFERED, LIMIT_MS], [{ ...MOVING, isReading: true }, 1_000]));
});

test('isBehindOthers(): those come first that were wanted before and are under way', () => {
  const [first, second, third] = ['first', 'second', 'third'].map((name) => ({
    name,
    isUnderWay: false,
  })) as [Pull, Pull, Pull];
  const pulling = new Set([first, second]);
  const behind = () => [first, second, third].filter((pull) => isBehindOthers(pull, pulling));
  assert.equal(behind(), []);
  second.isUnderWay = true;
  assert.equal(behind(), []);
  first.isUnderWay = true;
  assert.equal(behind(), [second], 'and who wants nothing waits for nobody');
  assert.not(isBehindOthers(undefined, pulling));
});

test.run();
