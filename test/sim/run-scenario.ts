import { boundSeconds } from './bound.ts';
import { makeCheckers } from './checkers/checkers.ts';
import { type Measured, measure } from './measure.ts';
import type { Observer } from './observer.ts';
import { withLargerChunks } from './scale.ts';
import type { Extra, Scenario, ScenarioSize } from './scenarios.ts';
import { World } from './world.ts';
import type { WorldOptions } from './world-options.ts';

/** Model time after which a run has failed, as a multiple of its bound, and at least, s. */
const BOUNDS_MAX = 20;
const LIMIT_MIN_SECONDS = 600;

export interface ScenarioResult extends Measured {
  readonly scenario: string;
  readonly isDone: boolean;
  readonly extras: readonly Extra[];
  readonly originPeakGbps: number;
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
  readonly rssBytes: number;
  /** Goals that were missed, in words. */
  readonly misses: readonly string[];
}

export interface RunOptions {
  readonly seed: number;
  readonly size?: Partial<ScenarioSize>;
  /** Replaces single options of the scenario. */
  readonly overrides?: Partial<WorldOptions>;
  readonly observers?: readonly Observer[];
}

/** Runs one row once, with all checkers. @throws Violation */
export function runScenario(
  scenario: Scenario,
  { seed, size, overrides, observers = [] }: RunOptions,
): ScenarioResult {
  const real = { ...scenario.options({ ...scenario.size, ...size }, seed), ...overrides };
  const bound = (scenario.bound ?? boundSeconds)(real);
  const options = withLargerChunks(real, scenario.chunkFactor ?? 1);
  const peak = new OriginPeak(scenario.chunkFactor ?? 1);
  const world = new World(options, [...makeCheckers(options), peak, ...observers]);
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  const isDone = world.run(Math.max(LIMIT_MIN_SECONDS, BOUNDS_MAX * bound) * 1000);
  const { user, system } = process.cpuUsage(cpu);
  const nodes = world.nodes.filter((node) => scenario.counts?.(node, options) ?? true);
  const measured = measure(world, { nodes, bound });
  const extras = scenario.extras?.(world) ?? [];
  return {
    scenario: scenario.name,
    ...measured,
    isDone,
    extras,
    originPeakGbps: peak.gbps,
    cpuSeconds: (user + system) / 1e6,
    wallSeconds: (performance.now() - startMs) / 1000,
    rssBytes: process.resourceUsage().maxRSS * 1024,
    misses: missesOf(scenario, measured, extras),
  };
}

function missesOf({ goals }: Scenario, measured: Measured, extras: readonly Extra[]): string[] {
  const compared: Extra[] = [
    {
      name: 'p95OverBound',
      value: measured.p95OverBound,
      goal: goals.p95OverBound ?? Number.POSITIVE_INFINITY,
    },
    { name: 'p95Seconds', value: measured.p95Seconds, goal: goals.p95Seconds ?? Number.POSITIVE_INFINITY },
    { name: 'originOverImage', value: measured.originOverImage, goal: goals.originOverImage },
    ...extras,
  ];
  return compared
    .filter(({ value, goal = Number.POSITIVE_INFINITY }) => !(value <= goal))
    .map(({ name, value, goal }) => `${name} ${value.toFixed(3)} > ${goal}`);
}

/** The most that the origin sent within one second. */
class OriginPeak implements Observer {
  readonly #bytes: number[] = [];
  readonly #factor: number;

  constructor(factor: number) {
    this.#factor = factor;
  }

  get gbps(): number {
    return (Math.max(0, ...Array.from(this.#bytes, (bytes) => bytes ?? 0)) * this.#factor * 8) / 1e9;
  }

  onOriginBytes(_node: unknown, _blob: unknown, sizeBytes: number, nowMs: number): void {
    const second = Math.floor(nowMs / 1000);
    this.#bytes[second] = (this.#bytes[second] ?? 0) + sizeBytes;
  }
}
