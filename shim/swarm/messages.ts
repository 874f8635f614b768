import type { BlobKey } from '../base/blob-key.ts';

/** A node as its peers dial it: `address:port`. Also its identity until certificates give a stronger one. */
export type PeerId = string;

/** SHA-256 of one chunk, 32 bytes, computed by whoever read the chunk at the origin. */
export type ChunkHash = Uint8Array;

/** A run of chunks; chunk `i` covers bytes `[i * CHUNK_SIZE_BYTES, …)` of the blob, the last one may be shorter. */
export interface ChunkRun {
  readonly firstChunk: number;
  readonly chunkCount: number;
}

/** Hashes of consecutive chunks. */
export interface HashRun {
  readonly firstChunk: number;
  readonly hashes: readonly ChunkHash[];
}

export interface Holder {
  readonly peer: PeerId;
  readonly zone: string;
  readonly complete: boolean;
}

/**
 * What peers say to each other. Everything but `chunk` is small control traffic; the bytes of a `chunk` never pass
 * through the core. A message that breaks these rules is the sender's fault, never an assertion of ours.
 */
export type PeerMessage =
  /** To a directory node of the blob: I take part; tell me who else does, and grant me up to `leasesWanted` origin leases. */
  | {
      readonly kind: 'announce';
      readonly key: BlobKey;
      readonly sizeBytes: number;
      readonly chunksHeld: number;
      readonly complete: boolean;
      /** False when this node may not or cannot read the origin, or only serves. */
      readonly leasesWanted: number;
      /** Chunk runs in which the sender can use a lease (its window, whatever it holds of that); empty means anywhere. */
      readonly missing: readonly ChunkRun[];
      /** Bits of the chunks that the sender holds: lets the directory grant leases only for chunks nobody has. */
      readonly held: Uint8Array;
      /** Runs that the sender is reading at the origin: a directory that takes over learns of leases that it did not grant. */
      readonly leased: readonly ChunkRun[];
      /** How long the directory should remember this, ms. */
      readonly ttlMs: number;
      readonly zone: string;
    }
  /** Directory's answer to `announce`; also pushed when something of it changes (leases freed, new hashes). */
  | {
      readonly kind: 'directory';
      readonly key: BlobKey;
      readonly holders: readonly Holder[];
      readonly leases: readonly (ChunkRun & { readonly ttlMs: number })[];
      /** Runs that the receiver is to fetch from another zone, for all of its own; `holders` says of whom. */
      readonly imports: readonly (ChunkRun & { readonly ttlMs: number })[];
      readonly hashes: readonly HashRun[];
    }
  /** Lease holder to the directory nodes: these chunks were read at the origin and hash to this. Renews the lease. */
  | { readonly kind: 'publish'; readonly key: BlobKey; readonly hashes: HashRun }
  /** Lease holder to the directory: I will not read this run after all. */
  | {
      readonly kind: 'returnLease';
      readonly key: BlobKey;
      readonly run: ChunkRun;
      readonly retryAfterMs: number;
    }
  /** I take part no longer (pull ended, cache dropped the blob). To directories and neighbours. */
  | { readonly kind: 'depart'; readonly key: BlobKey }
  /** To a possible neighbour: send me your bitmap and, from then on, what you get. */
  | { readonly kind: 'follow'; readonly key: BlobKey; readonly sizeBytes: number }
  /** Answer to `follow` when the sender has no room or does not know the blob. */
  | { readonly kind: 'refuse'; readonly key: BlobKey; readonly retryAfterMs: number }
  /** Answer to `follow`: all that the sender holds. `hashes` are those that the sender knows of chunks it holds. */
  | {
      readonly kind: 'bitmap';
      readonly key: BlobKey;
      readonly held: Uint8Array;
      readonly hashes: readonly HashRun[];
    }
  /** What came in since, coalesced. */
  | { readonly kind: 'have'; readonly key: BlobKey; readonly hashes: readonly HashRun[] }
  | { readonly kind: 'unfollow'; readonly key: BlobKey }
  /** Send me this chunk. `requestId` is unique a connection and direction. */
  | { readonly kind: 'request'; readonly requestId: number; readonly key: BlobKey; readonly chunk: number }
  | { readonly kind: 'cancel'; readonly requestId: number }
  /** No free upload slot: ask again after the hint, or somebody else. */
  | { readonly kind: 'busy'; readonly requestId: number; readonly retryAfterMs: number }
  /** The chunk is not (any longer) here. */
  | { readonly kind: 'gone'; readonly requestId: number }
  /**
   * To the keeper of a registry host's budget: I want to read this much there, in this many requests. Sent again, with the same
   * number, by an asker that still waits. Without any requests: is anybody waiting?
   */
  | {
      readonly kind: 'askBudget';
      readonly host: string;
      readonly number: number;
      readonly bytes: number;
      readonly requests: number;
      /** Another node than the receiver granted something of this budget to the sender, or through it, a short while ago. */
      readonly isMoving: boolean;
    }
  /** Answer to `askBudget`: what may be read at once; no requests: nothing yet, ask again after this if nothing has come. */
  | {
      readonly kind: 'grantBudget';
      readonly host: string;
      readonly number: number;
      readonly bytes: number;
      readonly requests: number;
      readonly retryAfterMs: number;
    };

/** What the core asks of its driver (agent or simulator). Drained with `pollAction` after every input. */
export type Action =
  | { readonly kind: 'dial'; readonly peer: PeerId }
  | { readonly kind: 'hangUp'; readonly peer: PeerId; readonly reason: string }
  | { readonly kind: 'send'; readonly peer: PeerId; readonly message: PeerMessage }
  /** Read this run at the origin: hash each chunk, store it, call `handleOriginChunk` for each, then `handleOriginEnd`. */
  | { readonly kind: 'readOrigin'; readonly key: BlobKey; readonly run: ChunkRun }
  | { readonly kind: 'cancelOrigin'; readonly key: BlobKey; readonly run: ChunkRun }
  /** Send the chunk's bytes to the peer (from cache or adopted file), then call `handleServed`. An upload slot is taken until then. */
  | {
      readonly kind: 'serve';
      readonly peer: PeerId;
      readonly requestId: number;
      readonly key: BlobKey;
      readonly chunk: number;
    }
  /** The peer wants it no longer: skip it if it has not begun. `handleServed` still follows. */
  | { readonly kind: 'cancelServe'; readonly peer: PeerId; readonly requestId: number }
  /** All chunks of a joined blob are held. */
  | { readonly kind: 'complete'; readonly key: BlobKey }
  /** For logs and counters. */
  | {
      readonly kind: 'note';
      readonly event: string;
      readonly peer: PeerId | undefined;
      readonly key: BlobKey | undefined;
      readonly detail: string;
    };
