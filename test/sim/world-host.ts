import type { BlobKey } from '../../shim/base/blob-key.ts';
import type { SimBlob } from './sim-blob.ts';
import type { SimEvent, SimNode } from './sim-node.ts';

export interface WorldCounts {
  originBytes: number;
  originRequests: number;
  peerBytes: number;
  wastedBytes: number;
  messages: number;
  events: number;
  busy: number;
}

/** What the parts of the modelled network need of the world that they are in. */
export interface WorldHost {
  readonly nowMs: number;
  readonly nodes: readonly SimNode[];
  readonly counts: WorldCounts;
  blobOf(key: BlobKey): SimBlob;
  push(atMs: number, event: SimEvent): void;
  /** Carries out what the node's core asks for after an input. */
  drain(node: SimNode): void;
  isFrozen(node: SimNode): boolean;
  trace(kind: number, node: number, detail: number): void;
}

/** The receiving link passes chunks one after the other, each not before it was sent. */
export function passDown(
  host: WorldHost,
  to: number,
  transfer: { readonly sizeBytes: number; readonly bytesPerSecond: number; readonly latencyMs: number },
  event: SimEvent,
): void {
  const node = host.nodes[to] as SimNode;
  const busyMs = (transfer.sizeBytes / transfer.bytesPerSecond) * 1000;
  node.downFreeMs = Math.max(host.nowMs + transfer.latencyMs, node.downFreeMs + busyMs);
  host.push(node.downFreeMs, event);
}
