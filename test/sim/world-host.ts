import type { BlobKey } from '../../shim/base/blob-key.ts';
import type { Prng } from '../../shim/swarm/prng.ts';
import type { Observer } from './observer.ts';
import type { SimBlob } from './sim-blob.ts';
import type { Flow, SimEvent, SimNode } from './sim-node.ts';
import type { SimRights } from './sim-rights.ts';

export interface WorldCounts {
  originBytes: number;
  originRequests: number;
  originRefusals: number;
  peerBytes: number;
  crossZoneBytes: number;
  wastedBytes: number;
  /** All that nodes which want nothing sent and received, messages included. */
  idleBytes: number;
  messages: number;
  events: number;
  busy: number;
}

/** What the parts of the modelled network need of the world that they are in. */
export interface WorldHost {
  readonly nowMs: number;
  readonly nodes: readonly SimNode[];
  readonly counts: WorldCounts;
  readonly observers: readonly Observer[];
  /** Draws of the model itself; nodes have their own. */
  readonly prng: Prng;
  readonly rights: SimRights;
  blobOf(key: BlobKey): SimBlob;
  push(atMs: number, event: SimEvent): void;
  /** The node's own time. */
  localMs(node: SimNode): number;
  /** Carries out what the node's core asks for after an input. */
  drain(node: SimNode): void;
  /** A received chunk is on disk. */
  handleStored(flow: Flow): void;
  isFrozen(node: SimNode): boolean;
  /** When something sent now on a connection arrives: later when packets are lost. */
  arrivalMs(connection: { notBeforeMs: number }): number;
  trace(kind: number, node: number, detail: number): void;
}
