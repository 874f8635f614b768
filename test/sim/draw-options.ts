import type { OriginLimits } from '../../shim/swarm/budget-bucket.ts';
import { Prng } from '../../shim/swarm/prng.ts';
import type { Fault, WorldOptions } from './world-options.ts';

const MB = 1_000_000;
/** Faults happen before this, ms; then all of them end. */
const HEAL_MS = 25_000;

/** Draws a small swarm, its faults and their end from a seed. */
export function drawOptions(seed: number): WorldOptions {
  const prng = new Prng(seed);
  const nodes = 2 + prng.below(11);
  const blobs = 1 + prng.below(4);
  const link = [20, 125, 1000][prng.below(3)] as number;
  const zoneCount = 1 + prng.below(3);
  const faults = Array.from({ length: prng.below(5) }, () => drawFault(prng, nodes));
  return {
    nodes,
    seed,
    blobSizesBytes: Array.from({ length: blobs }, () => 1 + prng.below(60 * MB)),
    upBytesPerSecond: link * MB,
    downBytesPerSecond: link * MB,
    originBytesPerSecond: (5 + prng.below(100)) * MB,
    latencyMs: [0.2, 1, 30][prng.below(3)] as number,
    originLatencyMs: 5 + prng.below(100),
    startSpreadMs: 1 + prng.below(5000),
    ...(prng.chance(1, 5) && { originRequestsPerSecond: 2 + prng.below(20) }),
    ...(zoneCount > 1 && {
      zones: { count: zoneCount, linkBytesPerSecond: (5 + prng.below(20)) * MB },
    }),
    ...(prng.chance(1, 4) && !hasLiar(faults) && { mayNotReadOrigin: [1] }),
    // Node 0 wants everything and may read it, so that each blob is wanted by somebody who can get it.
    ...(prng.chance(1, 4) && nodes > 2 && { withoutRight: [2] }),
    unwanted: new Map(
      Array.from({ length: nodes - 1 }, (_, index) => [index + 1, drawUnwanted(prng, blobs)] as const),
    ),
    faults: [...faults, { kind: 'heal', atMs: HEAL_MS }],
    ...(prng.chance(1, 3) && { originLimits: drawLimits(prng) }),
  };
}

/**
 * Draws a swarm of up to 64 nodes without faults: any mix of image, links, latency and origin that people might have. Origins are of
 * 2 MB/s and more; below that, several layers and some dozen nodes take a minute for a chunk, and some of them help themselves.
 */
export function drawCalmOptions(seed: number): WorldOptions {
  const prng = new Prng(seed);
  const pick = <T>(list: readonly T[]): T => list[prng.below(list.length)] as T;
  const nodes = pick([2, 3, 5, 8, 12, 20, 31, 33, 40, 64]);
  const link = pick([2, 12.5, 125, 1250]);
  return {
    nodes,
    seed,
    blobSizesBytes: Array.from({ length: 1 + prng.below(6) }, () => 1 + prng.below(60 * MB)),
    upBytesPerSecond: link * MB,
    downBytesPerSecond: link * MB,
    originBytesPerSecond: pick([2, 10, 50, 250, 1000]) * MB,
    latencyMs: pick([0.2, 2, 20, 80]),
    originLatencyMs: 5 + prng.below(150),
    startSpreadMs: 1 + prng.below(pick([100, 1_000, 5_000, 30_000])),
  };
}

/** One of the two, or both. */
function drawLimits(prng: Prng): OriginLimits {
  const which = prng.below(3);
  return {
    bytesPerSecond: which === 0 ? 0 : (4 + prng.below(20)) * MB,
    requestsPerSecond: which === 1 ? 0 : 2 + prng.below(10),
  };
}

/** Everybody bans a liar for longer than a run: it must be able to read for itself afterwards, and so must those that depended on it. */
function hasLiar(faults: readonly Fault[]): boolean {
  return faults.some((fault) => fault.kind === 'lie' && fault.node <= 1);
}

function drawUnwanted(prng: Prng, blobs: number): number[] {
  return Array.from({ length: blobs }, (_, blob) => blob).filter(() => prng.chance(1, 5));
}

function drawFault(prng: Prng, nodes: number): Fault {
  const atMs = prng.below(8000);
  const untilMs = atMs + prng.below(HEAL_MS - 9000);
  const node = prng.below(nodes);
  const percent = 1 + prng.below(30);
  const answer = ([429, 503, 'outage'] as const)[prng.below(3)] as 429 | 503 | 'outage';
  const faults: Fault[] = [
    { kind: 'crash', atMs, node },
    { kind: 'freeze', atMs, untilMs, node },
    { kind: 'lie', atMs, node, publishes: prng.chance(1, 2) },
    { kind: 'busy', atMs, node },
    { kind: 'slowLink', atMs, untilMs, node, share: 0.1 },
    { kind: 'slowDisk', atMs, untilMs, node, bytesPerSecond: 2 * MB },
    { kind: 'partition', atMs, untilMs, node },
    { kind: 'loss', atMs, untilMs, percent },
    { kind: 'originDown', atMs, untilMs, retryAfterMs: prng.below(3000), answer },
    { kind: 'clockSkew', atMs, node, jumpMs: prng.below(60_000), percent: prng.below(20) - 10 },
    { kind: 'views', atMs, untilMs, percent: 100 - percent },
  ];
  return faults[prng.below(faults.length)] as Fault;
}
