import type { World } from './world.ts';

export interface Measured {
  readonly nodes: number;
  readonly seed: number;
  readonly p50Seconds: number;
  readonly p95Seconds: number;
  readonly maxSeconds: number;
  /** What no scheme can beat: the origin sends each byte once, each node receives all, and all uplinks together send N copies. */
  readonly boundSeconds: number;
  readonly p95OverBound: number;
  readonly originOverImage: number;
  readonly wastedOverImage: number;
  readonly traceHash: string;
}

export function measure(world: World): Measured {
  const { options, counts } = world;
  const imageBytes = options.blobSizesBytes.reduce((sum, size) => sum + size, 0);
  const pullers = options.nodes - (options.seeds?.length ?? 0) - (options.idle?.length ?? 0);
  const bound = Math.max(
    imageBytes / options.originBytesPerSecond,
    imageBytes / options.downBytesPerSecond,
    (pullers * imageBytes) / (options.originBytesPerSecond + pullers * options.upBytesPerSecond),
  );
  const seconds = world.secondsTaken().sort((left, right) => left - right);
  const at = (share: number) =>
    seconds[Math.min(seconds.length - 1, Math.floor(seconds.length * share))] ?? Number.NaN;
  return {
    nodes: options.nodes,
    seed: options.seed,
    p50Seconds: at(0.5),
    p95Seconds: at(0.95),
    maxSeconds: at(1),
    boundSeconds: bound,
    p95OverBound: at(0.95) / bound,
    originOverImage: counts.originBytes / imageBytes,
    wastedOverImage: counts.wastedBytes / imageBytes / Math.max(1, pullers),
    traceHash: world.traceHash.toString(16).padStart(8, '0'),
  };
}
