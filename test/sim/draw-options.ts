import { Prng } from '../../shim/swarm/prng.ts';
import type { Fault, WorldOptions } from './world-options.ts';

const MB = 1_000_000;

/** Draws a small swarm and its faults from a seed; every fault but crashes, lies and busy peers heals within 20 s. */
export function drawOptions(seed: number): WorldOptions {
  const prng = new Prng(seed);
  const nodes = 2 + prng.below(9);
  const faults = Array.from({ length: prng.below(4) }, () => drawFault(prng, nodes));
  // A liar is left alone by everybody: it must be able to read for itself.
  const hasLiar = faults.some((fault) => fault.kind === 'lie' && fault.node === 1);
  const link = [20, 125, 1000][prng.below(3)] as number;
  return {
    nodes,
    seed,
    blobSizesBytes: Array.from({ length: 1 + prng.below(4) }, () => 1 + prng.below(60 * MB)),
    upBytesPerSecond: link * MB,
    downBytesPerSecond: link * MB,
    originBytesPerSecond: (5 + prng.below(100)) * MB,
    latencyMs: [0.2, 1, 30][prng.below(3)] as number,
    originLatencyMs: 5 + prng.below(100),
    startSpreadMs: 1 + prng.below(5000),
    mayNotReadOrigin: prng.chance(1, 4) && !hasLiar ? [1] : [],
    faults,
  };
}

function drawFault(prng: Prng, nodes: number): Fault {
  const atMs = prng.below(6000);
  const untilMs = atMs + prng.below(14_000);
  // Node 0 is spared by what does not heal, so that somebody can always read the origin and be believed.
  const node = 1 + prng.below(nodes - 1);
  const faults: Fault[] = [
    { kind: 'crash', atMs, node },
    { kind: 'freeze', atMs, untilMs, node: node - 1 },
    { kind: 'lie', atMs, node },
    { kind: 'busy', atMs, node },
    { kind: 'partition', atMs, untilMs, node },
    { kind: 'originDown', atMs, untilMs, retryAfterMs: prng.below(3000) },
  ];
  return faults[prng.below(faults.length)] as Fault;
}
