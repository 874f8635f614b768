import type { BlobKey } from '../base/blob-key.ts';
import type { Bitmap } from './bitmap.ts';
import type { SwarmLimits } from './limits.ts';
import type { Action, ChunkHash, ChunkRun, HashRun, PeerId, PeerMessage } from './messages.ts';

export interface SwarmNodeOptions {
  readonly self: PeerId;
  readonly zone: string;
  /** Seeds every random choice of this node. */
  readonly seed: number;
  /** False for nodes that leave reading at the origin to others as long as there are others. */
  readonly mayReadOrigin: boolean;
  readonly limits?: Partial<SwarmLimits>;
}

export interface Member {
  readonly peer: PeerId;
  readonly zone: string;
}

/** What became of a chunk frame: checked against `expectedHash` and stored, wrong, or not whole. */
export interface ChunkArrival {
  readonly key: BlobKey;
  readonly chunk: number;
  readonly requestId: number;
  readonly peer: PeerId;
  readonly outcome: 'stored' | 'wrongHash' | 'failed';
  readonly elapsedMs: number;
}

export type OriginOutcome =
  | { readonly ok: true }
  | {
      readonly ok: false;
      /** How long the registry asked to wait, ms. */
      readonly retryAfterMs?: number;
      /** True when no later try of this node can succeed (401, 403, 404). */
      readonly fatal: boolean;
      readonly code: string;
    };

export interface JoinOptions {
  readonly key: BlobKey;
  readonly sizeBytes: number;
  /** Verified chunks from before; each needs its hash in `hashes`, else it counts as missing. */
  readonly held: Bitmap | undefined;
  readonly hashes: readonly HashRun[];
}

export interface SeedOptions {
  readonly key: BlobKey;
  readonly sizeBytes: number;
  /** Hashes of all chunks. */
  readonly hashes: readonly HashRun[];
}

export interface BlobSnapshot {
  readonly key: BlobKey;
  readonly chunkCount: number;
  readonly chunksHeld: number;
  readonly complete: boolean;
  readonly originOnly: boolean;
  readonly neighbours: number;
  readonly followers: number;
  readonly requestsInFlight: number;
  readonly leases: number;
}

export interface SwarmSnapshot {
  readonly members: number;
  readonly connected: number;
  readonly banned: number;
  readonly uploadsInFlight: number;
  readonly requestsInFlight: number;
  readonly directoryKeys: number;
  readonly blobs: readonly BlobSnapshot[];
}

/**
 * Everything one node decides about sharing blobs. See README.md for the contract; in short: after every `handle…`
 * and command, drain `pollAction`, then call `handleTimeout` at `nextWakeupMs`. Time never goes backwards.
 */
export class SwarmNode {
  constructor(_options: SwarmNodeOptions) {}

  /** The full present membership; this node itself may be absent from it. */
  handleMembers(_members: readonly Member[], _nowMs: number): void {}

  /** A connection (dialled or accepted) passed its hello. */
  handleConnected(_peer: PeerId, _info: { readonly zone: string }, _nowMs: number): void {}

  /** A connection ended, or a dial failed. */
  handleDisconnected(_peer: PeerId, _reason: string, _nowMs: number): void {}

  handleMessage(_peer: PeerId, _message: PeerMessage, _nowMs: number): void {}

  /** A chunk frame arrived whole, was wrong, or its connection gave up on it. */
  handleChunk(_arrival: ChunkArrival, _nowMs: number): void {}

  /** One chunk of a `readOrigin` action is stored and hashes to this. */
  handleOriginChunk(_key: BlobKey, _chunk: number, _hash: ChunkHash, _nowMs: number): void {}

  /** A `readOrigin` action ended; `run` is the action's own. */
  handleOriginEnd(_key: BlobKey, _run: ChunkRun, _outcome: OriginOutcome, _nowMs: number): void {}

  /** A `serve` action ended, sent or not: its upload slot is free. */
  handleServed(_peer: PeerId, _requestId: number, _nowMs: number): void {}

  handleTimeout(_nowMs: number): void {}

  /** This node wants the blob. Joining again what is joined or seeded changes nothing. */
  join(_options: JoinOptions, _nowMs: number): void {}

  /** This node holds all of the blob and only serves it. */
  seed(_options: SeedOptions, _nowMs: number): void {}

  /** This node neither wants nor serves the blob any longer. */
  leave(_key: BlobKey, _nowMs: number): void {}

  /**
   * The blob's digest was wrong: forgets every chunk and reads the origin alone from now on. A peer that supplied other
   * bytes than the origin gives is banned when that shows.
   */
  distrust(_key: BlobKey, _nowMs: number): void {}

  /** Where the consumer of the blob's bytes is; chunks just ahead of it come first. */
  setConsumer(_key: BlobKey, _nextByte: number, _nowMs: number): void {}

  /** What an arriving chunk must hash to; undefined when nobody whom we believe has said yet. */
  expectedHash(_key: BlobKey, _chunk: number): ChunkHash | undefined {
    return undefined;
  }

  /** What this peer was asked for under this id; undefined when the answer is not wanted (any longer). */
  expectedRequest(
    _peer: PeerId,
    _requestId: number,
  ): { readonly key: BlobKey; readonly chunk: number } | undefined {
    return undefined;
  }

  pollAction(): Action | undefined {
    return undefined;
  }

  /** When `handleTimeout` wants to be called; undefined when nothing is pending. */
  nextWakeupMs(): number | undefined {
    return undefined;
  }

  snapshot(): SwarmSnapshot {
    return {
      members: 0,
      connected: 0,
      banned: 0,
      uploadsInFlight: 0,
      requestsInFlight: 0,
      directoryKeys: 0,
      blobs: [],
    };
  }
}
