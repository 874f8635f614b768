import type { ChunkRun } from '../../shim/swarm/messages.ts';
import type { SimBlob } from './sim-blob.ts';
import type { SimNode } from './sim-node.ts';

/** Looks at a world from outside, while it runs and at its end. A checker throws `Violation`. */
export interface Observer {
  /** A chunk begins to be sent to a peer; `bytes` says which bytes. */
  onServe?(served: { from: SimNode; to: SimNode; blob: SimBlob; chunk: number; bytes: number }): void;
  /** A chunk is on a node's disk and known to its core. */
  onStored?(node: SimNode, blob: SimBlob, chunk: number, nowMs: number): void;
  onOriginRequest?(node: SimNode, blob: SimBlob, run: ChunkRun, nowMs: number): void;
  onOriginBytes?(node: SimNode, blob: SimBlob, sizeBytes: number, nowMs: number): void;
  /** Once every so often in model time, between events. */
  onSample?(nodes: readonly SimNode[], nowMs: number): void;
  /** The run is over; `isDone` when every pull ended. */
  onEnd?(nodes: readonly SimNode[], isDone: boolean, nowMs: number): void;
}

/** A checker found that the swarm did what it must not. */
export class Violation extends Error {
  override name = 'Violation';
}
