import { boundSeconds } from './bound.ts';
import type { SimNode } from './sim-node.ts';
import type { World } from './world.ts';

export interface Measured {
  readonly nodes: number;
  readonly p95OverBound: number;
  readonly originOverImage: number;
  readonly p95Seconds: number;
  readonly boundSeconds: number;
  readonly seed: number;
  readonly traceHash: string;
  readonly p50Seconds: number;
  readonly maxSeconds: number;
  readonly wastedOverImage: number;
}

/** Figures of a world that has run, over `nodes` (all that finished by default) and against `bound`, s. */
export function measure(
  world: World,
  {
    nodes = world.nodes,
    bound = boundSeconds(world.options),
  }: { nodes?: readonly SimNode[]; bound?: number } = {},
): Measured {
  const { options, counts } = world;
  const imageBytes = options.blobSizesBytes.reduce((sum, size) => sum + size, 0);
  const seconds = world.secondsTaken(nodes).sort((left, right) => left - right);
  return {
    nodes: options.nodes,
    p95OverBound: percentile(seconds, 0.95) / bound,
    originOverImage: counts.originBytes / imageBytes,
    p95Seconds: percentile(seconds, 0.95),
    boundSeconds: bound,
    seed: options.seed,
    traceHash: world.traceHash.toString(16).padStart(8, '0'),
    p50Seconds: percentile(seconds, 0.5),
    maxSeconds: percentile(seconds, 1),
    wastedOverImage: counts.wastedBytes / imageBytes / Math.max(1, seconds.length),
  };
}

/** Nearest rank: the least value that this share of all values does not exceed. */
function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}
