import { DEFAULT_LIMITS, type SwarmLimits } from '../../shim/swarm/limits.ts';
import type { WorldOptions } from './world-options.ts';

/** The window never gets narrower than this many modelled chunks. */
const WINDOW_CHUNKS_MIN = 16;
/** Nor do those of consumers, which are told apart by less. */
const AHEAD_CHUNKS_MIN = 4;

/**
 * The same world with chunks that stand for `factor` real ones: every size and rate is divided by it, so times stay as they
 * are and events get fewer. A chunk takes that much longer to pass a link, so results are a little worse than with real chunks.
 */
export function withLargerChunks(options: WorldOptions, factor: number): WorldOptions {
  if (factor === 1) return options;
  const { machine, zones, upOf, limits } = options;
  return {
    ...options,
    blobSizesBytes: options.blobSizesBytes.map((size) => Math.ceil(size / factor)),
    upBytesPerSecond: options.upBytesPerSecond / factor,
    downBytesPerSecond: options.downBytesPerSecond / factor,
    originBytesPerSecond: options.originBytesPerSecond / factor,
    limits: { ...slowed(factor), ...limits, ...fewer(factor, { ...DEFAULT_LIMITS, ...limits }) },
    ...(upOf && { upOf: new Map([...upOf].map(([node, rate]) => [node, rate / factor])) }),
    ...(zones && { zones: { ...zones, linkBytesPerSecond: zones.linkBytesPerSecond / factor } }),
    ...(machine && {
      machine: {
        ...machine,
        diskBytesPerSecond: machine.diskBytesPerSecond / factor,
        pageCacheBytes: machine.pageCacheBytes / factor,
        dirtyBytes: machine.dirtyBytes / factor,
        costs: {
          receiveSecondsPerGb: machine.costs.receiveSecondsPerGb * factor,
          serveSecondsPerGb: machine.costs.serveSecondsPerGb * factor,
          unpackSecondsPerGb: machine.costs.unpackSecondsPerGb * factor,
        },
      },
    }),
  };
}

/** Numbers of chunks that stand for bytes. */
function fewer(factor: number, limits: SwarmLimits): Partial<SwarmLimits> {
  const scaled = (chunks: number, min: number): number => Math.max(min, Math.ceil(chunks / factor));
  return {
    windowChunks: scaled(limits.windowChunks, WINDOW_CHUNKS_MIN),
    aheadChunks: scaled(limits.aheadChunks, WINDOW_CHUNKS_MIN),
    aheadChunksMin: scaled(limits.aheadChunksMin, AHEAD_CHUNKS_MIN),
    consumerEnoughChunks: scaled(limits.consumerEnoughChunks, 2),
    frontBandChunks: scaled(limits.frontBandChunks, 2),
    leaseChunks: scaled(limits.leaseChunks, 1),
  };
}

/** Times that follow from how long a chunk takes, which is that much longer. */
function slowed(factor: number): Partial<SwarmLimits> {
  const times = [
    'requestsAheadMs',
    'leaseTtlFirstMs',
    'leaseTtlMinMs',
    'leaseTtlMaxMs',
    'hedgeFloorMs',
    'firstByteTimeoutMs',
    'requestTimeoutMinMs',
    'requestTimeoutMaxMs',
    'stalledMs',
    'starvedMs',
  ] as const;
  return Object.fromEntries(times.map((name) => [name, DEFAULT_LIMITS[name] * factor]));
}
