import type { BlobKey } from '../../shim/base/blob-key.ts';
import type { ChunkRun, PeerMessage } from '../../shim/swarm/messages.ts';
import type { SwarmNode } from '../../shim/swarm/swarm-node.ts';
import type { FairLink } from './fair-link.ts';
import type { Fault } from './world-options.ts';

export type SimEvent =
  | { readonly kind: 'start'; readonly node: number }
  | { readonly kind: 'wake'; readonly node: number; readonly atMs: number }
  | {
      readonly kind: 'message';
      readonly from: number;
      readonly to: number;
      readonly link: number;
      readonly message: PeerMessage;
    }
  | { readonly kind: 'dialled'; readonly from: number; readonly to: number }
  | { readonly kind: 'closed'; readonly node: number; readonly peer: number; readonly reason: string }
  | { readonly kind: 'linkEnd'; readonly node: number; readonly version: number }
  | { readonly kind: 'originEnd'; readonly version: number }
  | { readonly kind: 'chunkBegun'; readonly upload: Upload }
  | { readonly kind: 'chunk'; readonly upload: Upload }
  | { readonly kind: 'originStart'; readonly read: OriginRead }
  | { readonly kind: 'originChunk'; readonly read: OriginRead }
  | { readonly kind: 'originFailed'; readonly read: OriginRead; readonly retryAfterMs: number }
  | { readonly kind: 'fault'; readonly fault: Fault };

export interface Upload {
  readonly from: number;
  readonly to: number;
  readonly link: number;
  readonly requestId: number;
  readonly key: BlobKey;
  readonly chunk: number;
  readonly sentMs: number;
}

export interface OriginRead {
  readonly node: number;
  readonly key: BlobKey;
  readonly run: ChunkRun;
  next: number;
  isCancelled: boolean;
}

export interface SimNode {
  readonly index: number;
  core: SwarmNode;
  readonly up: FairLink<Upload>;
  downFreeMs: number;
  wakeAtMs: number;
  isAlive: boolean;
  isLiar: boolean;
  isBusy: boolean;
  frozenUntilMs: number;
  startMs: number;
  readonly openBlobs: Set<string>;
  doneMs: number | undefined;
  /** Peers connected, with the number of the connection: messages of an older one are lost. */
  readonly links: Map<number, number>;
}

/** Nodes have an index in the model and an address among themselves. */
export function peerName(index: number): string {
  return `10.${index >>> 16}.${(index >>> 8) & 255}.${index & 255}:65002`;
}

export function peerIndex(peer: string): number {
  const [, high, middle, low] = /^10\.(\d+)\.(\d+)\.(\d+):/.exec(peer) ?? [];
  return (Number(high) << 16) | (Number(middle) << 8) | Number(low);
}
