/**
 * Draws swarms and faults from seeds and runs them under all checkers. Prints the seed that fails and how to run it again.
 * `--calm`: swarms of any kind without faults, which must be quick as well.
 *
 * `node test/sim/sweep.ts [--calm] [--seeds N] [--first SEED] [--seed SEED] [--json]`
 */
import { parseArgs } from 'node:util';
import { describeFailure, runCalmSeed, runSeed } from './run-seed.ts';

const SEEDS = 500;
/** A failing seed does not end the sweep, many do. */
const FAILURES_MAX = 5;

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    first: { type: 'string' },
    calm: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});

function main(): void {
  const first = Number(values.seed ?? values.first ?? 0);
  const count = values.seed === undefined ? Number(values.seeds ?? SEEDS) : 1;
  const startMs = performance.now();
  const failed: number[] = [];
  let slowestMs = 0;
  let ran = 0;
  for (let seed = first; seed < first + count && failed.length < FAILURES_MAX; seed++) {
    const result = values.calm ? runCalmSeed(seed) : runSeed(seed);
    ran++;
    slowestMs = Math.max(slowestMs, result.doneMs);
    if (values.seed !== undefined) console.error(JSON.stringify(result.options, mapsAsEntries));
    if (result.failure === undefined) continue;
    failed.push(seed);
    console.error(describeFailure(result));
  }
  const seconds = (performance.now() - startMs) / 1000;
  const summary = { seeds: ran, first, failed, slowestSeconds: slowestMs / 1000, seconds };
  if (values.json) console.log(JSON.stringify(summary));
  else console.log(`${ran} seeds from ${first} on: ${failed.length} failed; ${seconds.toFixed(1)} s`);
  if (failed.length > 0) process.exitCode = 1;
}

function mapsAsEntries(_key: string, value: unknown): unknown {
  return value instanceof Map ? Object.fromEntries(value) : value;
}

main();
