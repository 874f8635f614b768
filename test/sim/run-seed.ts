import { CHUNK_SIZE_BYTES } from '../../shim/swarm/limits.ts';
import { boundSeconds } from './bound.ts';
import { makeCheckers } from './checkers/checkers.ts';
import { drawCalmOptions, drawOptions } from './draw-options.ts';
import { measure } from './measure.ts';
import { World } from './world.ts';
import type { WorldOptions } from './world-options.ts';

/** Model time in which every drawn swarm must be done, ms: all faults end after 25 s, the slowest then needs about a minute. */
const LIMIT_MS = 400_000;
/**
 * What a calm swarm may take, as a multiple of its bound, and on top of that: times in which one link passes a chunk on, for the bound
 * knows no chunks; and round trips.
 */
const BOUNDS_MAX = 1.5;
const CHUNKS_MAX = 20;
const ROUND_TRIPS_MAX = 20;
/** A calm swarm that is not done after so many times what it may take is given up. */
const CALM_LIMITS_MAX = 10;

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
  return resultOf(world, failureOf(world, LIMIT_MS));
}

/** The same without faults: it must also be quick. */
export function runCalmSeed(seed: number): SeedResult {
  const options = drawCalmOptions(seed);
  const world = new World(options, makeCheckers(options));
  const limitSeconds = calmLimitSeconds(options);
  const limitMs = CALM_LIMITS_MAX * limitSeconds * 1000 + options.startSpreadMs;
  return resultOf(world, failureOf(world, limitMs) ?? slownessOf(world, limitSeconds));
}

function resultOf(world: World, failure: string | undefined): SeedResult {
  const traceHash = world.traceHash.toString(16).padStart(8, '0');
  return { seed: world.options.seed, options: world.options, traceHash, doneMs: world.nowMs, failure };
}

function calmLimitSeconds(options: WorldOptions): number {
  const { upBytesPerSecond, latencyMs, originLatencyMs } = options;
  const chunkSeconds = CHUNK_SIZE_BYTES / upBytesPerSecond;
  const roundTripSeconds = (2 * latencyMs + originLatencyMs) / 1000;
  return BOUNDS_MAX * boundSeconds(options) + CHUNKS_MAX * chunkSeconds + ROUND_TRIPS_MAX * roundTripSeconds;
}

function slownessOf(world: World, limitSeconds: number): string | undefined {
  const { p95Seconds, boundSeconds: bound } = measure(world);
  if (p95Seconds <= limitSeconds) return undefined;
  const figures = [p95Seconds, limitSeconds, bound].map((seconds) => seconds.toFixed(2));
  return `95 of 100 nodes took up to ${figures[0]} s; at most ${figures[1]} s were expected where links allow ${figures[2]} s`;
}

/** All that is needed to see a failing seed again. */
export function describeFailure({ seed, options, failure }: SeedResult): string {
  const unwanted = Object.fromEntries(options.unwanted ?? []);
  const calm = options.faults === undefined ? ' CALM=1' : '';
  return [
    `seed ${seed}: ${failure}`,
    `  options ${JSON.stringify({ ...options, unwanted })}`,
    `  again: make sim-swarm SEED=${seed}${calm}`,
  ].join('\n');
}

function failureOf(world: World, limitMs: number): string | undefined {
  try {
    if (world.run(limitMs)) return undefined;
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message}\n${error.stack}` : String(error);
  }
  const open = world.nodes.filter((node) => node.isAlive && node.openBlobs.size > 0);
  const states = open.map((node) => [node.index, node.core.snapshot()]);
  return `some pulls never ended: ${JSON.stringify(states)}`;
}
