import { makeCheckers } from './checkers/checkers.ts';
import { drawOptions } from './draw-options.ts';
import { World } from './world.ts';
import type { WorldOptions } from './world-options.ts';

/** Model time in which every drawn swarm must be done, ms: all faults end after 25 s, the slowest then needs about a minute. */
const LIMIT_MS = 400_000;

export interface SeedResult {
  readonly seed: number;
  readonly options: WorldOptions;
  readonly traceHash: string;
  readonly doneMs: number;
  /** What went wrong; undefined when nothing did. */
  readonly failure: string | undefined;
}

/** Runs the swarm that the seed draws, under all checkers. */
export function runSeed(seed: number): SeedResult {
  const options = drawOptions(seed);
  const world = new World(options, makeCheckers(options));
  const failure = failureOf(world);
  return {
    seed,
    options,
    traceHash: world.traceHash.toString(16).padStart(8, '0'),
    doneMs: world.nowMs,
    failure,
  };
}

/** All that is needed to see a failing seed again. */
export function describeFailure({ seed, options, failure }: SeedResult): string {
  const unwanted = Object.fromEntries(options.unwanted ?? []);
  return [
    `seed ${seed}: ${failure}`,
    `  options ${JSON.stringify({ ...options, unwanted })}`,
    `  again: make sim-swarm SEED=${seed}`,
  ].join('\n');
}

function failureOf(world: World): string | undefined {
  try {
    if (world.run(LIMIT_MS)) return undefined;
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message}\n${error.stack}` : String(error);
  }
  const open = world.nodes.filter((node) => node.isAlive && node.openBlobs.size > 0);
  const states = open.map((node) => [node.index, node.core.snapshot()]);
  return `some pulls never ended: ${JSON.stringify(states)}`;
}
