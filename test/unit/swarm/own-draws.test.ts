import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  DRAWS_WHEN_STARVED,
  DRAWS_WITHOUT_HELP,
  type DrawRule,
  OwnDraws,
} from '../../../shim/swarm/own-draws.ts';
import { Prng } from '../../../shim/swarm/prng.ts';

const MEMBERS = 64;

/** When each of `MEMBERS` nodes is drawn for the first time, ms, in order. */
function firstDraws(rule: DrawRule, seed: number, fromMs = 0, before?: (draws: OwnDraws) => void): number[] {
  const times = Array.from({ length: MEMBERS }, (_, node) => {
    const draws = new OwnDraws(new Prng(seed * MEMBERS + node));
    before?.(draws);
    for (let nowMs = fromMs; ; nowMs += 100) if (draws.isDrawn(rule, MEMBERS, nowMs)) return nowMs - fromMs;
  });
  return times.sort((left, right) => left - right);
}

function mean(seeds: number, figure: (seed: number) => number): number {
  let sum = 0;
  for (let seed = 1; seed <= seeds; seed++) sum += figure(seed);
  return sum / seeds;
}

test('OwnDraws: one of all is drawn at first on average, then two, and everybody in the end', () => {
  const drawnWithin = (rule: DrawRule, ms: number) =>
    mean(200, (seed) => firstDraws(rule, seed).filter((atMs) => atMs <= ms).length);
  const atFirst = drawnWithin(DRAWS_WITHOUT_HELP, 0);
  const atSecond = drawnWithin(DRAWS_WITHOUT_HELP, 1_000);
  assert.ok(atFirst > 0.8 && atFirst < 1.2, `${atFirst}`);
  assert.ok(atSecond > 2.6 && atSecond < 3.3, `${atSecond}`);
  assert.ok((firstDraws(DRAWS_WITHOUT_HELP, 1).at(-1) as number) <= 6_000);
});

test('OwnDraws: who is starved draws ever more rarely', () => {
  const drawnWithin = (ms: number) =>
    mean(200, (seed) => firstDraws(DRAWS_WHEN_STARVED, seed).filter((atMs) => atMs <= ms).length);
  assert.ok(drawnWithin(9_900) < 1.2);
  assert.ok(drawnWithin(29_900) < 3.5);
  assert.ok(drawnWithin(30_000) > 6);
});

test('OwnDraws: a new need begins with small odds', () => {
  const afterOneNeed = (draws: OwnDraws): void => {
    for (let nowMs = 0; nowMs <= 10_000; nowMs += 100) draws.isDrawn(DRAWS_WITHOUT_HELP, MEMBERS, nowMs);
    draws.reset();
  };
  const drawn = mean(
    200,
    (seed) => firstDraws(DRAWS_WITHOUT_HELP, seed, 20_000, afterOneNeed).filter((atMs) => atMs === 0).length,
  );
  assert.ok(drawn > 0.8 && drawn < 1.2, `${drawn}`);
});

test.run();
