import type { BlobKey } from '../../shim/base/blob-key.ts';
import type { ChunkRun, PeerMessage } from '../../shim/swarm/messages.ts';
import type { SwarmNode } from '../../shim/swarm/swarm-node.ts';
import type { FairLink } from './fair-link.ts';
import type { SimBlob } from './sim-blob.ts';
import type { SimClock } from './sim-clock.ts';
import type { SimMachine } from './sim-machine.ts';
import type { Proof } from './sim-rights.ts';
import type { Fault } from './world-options.ts';

export type SimEvent =
  | { readonly kind: 'start'; readonly node: number }
  | { readonly kind: 'wake'; readonly node: number; readonly atMs: number }
  | {
      readonly kind: 'message';
      readonly from: number;
      readonly to: number;
      readonly link: Connection;
      readonly message: PeerMessage;
    }
  | {
      readonly kind: 'proof';
      readonly from: number;
      readonly to: number;
      readonly link: Connection;
      readonly proof: Proof;
    }
  | { readonly kind: 'dialled'; readonly from: number; readonly to: number }
  | { readonly kind: 'closed'; readonly node: number; readonly peer: number; readonly reason: string }
  | { readonly kind: 'linkEnd'; readonly link: FairLink<Flow> }
  | { readonly kind: 'flowStart'; readonly flow: Flow }
  | { readonly kind: 'chunkBegun'; readonly flow: ChunkFlow }
  | { readonly kind: 'chunkArrived'; readonly flow: Flow }
  | { readonly kind: 'chunkStored'; readonly flow: Flow }
  | { readonly kind: 'unpacked'; readonly node: number; readonly life: number; readonly blob: SimBlob }
  | { readonly kind: 'hashed'; readonly node: number; readonly life: number; readonly blob: SimBlob }
  | { readonly kind: 'originStart'; readonly read: OriginRead }
  | { readonly kind: 'originFailed'; readonly read: OriginRead; readonly failure: OriginFailure }
  | { readonly kind: 'fault'; readonly fault: Fault };

/** One end's half of a connection; a new one after each reconnect, so that what is on its way on an old one is lost. */
export interface Connection {
  /** The same for both halves. */
  readonly number: number;
  /** Nothing is delivered before: what was sent earlier on it was late. */
  notBeforeMs: number;
}

/** A chunk on its way to a node: over every link of `links` at once, done when the slowest has passed it. */
export interface FlowBase {
  readonly to: number;
  readonly blob: SimBlob;
  readonly chunk: number;
  readonly sizeBytes: number;
  readonly links: readonly FairLink<Flow>[];
  linksLeft: number;
}

export interface ChunkFlow extends FlowBase {
  readonly kind: 'peer';
  readonly from: number;
  /** The sender's half of the connection. */
  readonly connection: Connection;
  readonly requestId: number;
  readonly sentMs: number;
  readonly bytes: number;
  /** Life of the receiver at the start: a restarted node does not get what its former self asked for. */
  readonly life: number;
}

export interface OriginFlow extends FlowBase {
  readonly kind: 'origin';
  readonly read: OriginRead;
  readonly life: number;
}

export type Flow = ChunkFlow | OriginFlow;

export interface OriginRead {
  readonly node: number;
  readonly life: number;
  readonly key: BlobKey;
  readonly run: ChunkRun;
  next: number;
  isCancelled: boolean;
}

export interface OriginFailure {
  readonly code: string;
  readonly retryAfterMs?: number;
}

/** What a node has of one blob. */
export interface StoredBlob {
  readonly blob: SimBlob;
  /** Per chunk: which bytes. */
  readonly bytes: Uint8Array;
  /** Per chunk: `cachedBytes` of the node's machine when it was last written or read. */
  readonly touchedAt: Float64Array;
  held: number;
  /** Content is made of all chunks before it. */
  unpacked: number;
  /** One of the node's unpack workers is at it, until all is unpacked. */
  hasWorker: boolean;
  isUnpacking: boolean;
  /** Chunks that containerd has read for the digest of what it takes over. */
  hashed: number;
  /** The core was told that it is wanted. */
  isJoined: boolean;
  /** Bytes proved wrong once: from then on the origin alone is read. */
  isDistrusted: boolean;
}

export interface SimNode {
  readonly index: number;
  readonly zone: string;
  core: SwarmNode;
  /** Counts restarts. */
  life: number;
  readonly clock: SimClock;
  readonly up: FairLink<Flow>;
  readonly down: FairLink<Flow>;
  readonly machine: SimMachine;
  readonly stored: Map<SimBlob, StoredBlob>;
  /** Blobs that are not yet complete. */
  readonly openBlobs: Set<SimBlob>;
  readonly connections: Map<number, Connection>;
  wakeAtMs: number;
  isStarted: boolean;
  isAlive: boolean;
  isLiar: boolean;
  publishesLies: boolean;
  isBusy: boolean;
  frozenUntilMs: number;
  startMs: number;
  doneMs: number | undefined;
}

const names: string[] = [];
const indexes = new Map<string, number>();

/** Nodes have an index in the model and an address among themselves; the same string each time, for maps' sake. */
export function peerName(index: number): string {
  let name = names[index];
  if (name === undefined) {
    name = `10.${index >>> 16}.${(index >>> 8) & 255}.${index & 255}:65002`;
    names[index] = name;
    indexes.set(name, index);
  }
  return name;
}

export function peerIndex(peer: string): number {
  return indexes.get(peer) as number;
}
