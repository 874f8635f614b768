import type { BlobKey } from '../base/blob-key.ts';

/**
 * `originRead`: a chunk came from the origin. `peerRead`: a chunk came from a peer. `chunkServed`: a peer that asked for
 * a chunk was answered. `cacheWrite`, `cacheRead`: a chunk went into, or came out of, a file of the disk cache.
 */
export type TransferOperation = 'originRead' | 'peerRead' | 'chunkServed' | 'cacheWrite' | 'cacheRead';

/** One request that was answered, or failed. */
export interface TransferEvent {
  readonly operation: TransferOperation;
  readonly key: BlobKey;
  /** Place in the blob. */
  readonly offsetBytes: number;
  /** Bytes of this one request; `FAILED_SIZE` when it failed. What was called off is neither. */
  readonly sizeBytes: number;
  /** From request to answer, waits for limits included, µs. */
  readonly latencyUs: number;
}

/** The size of what failed. */
export const FAILED_SIZE = -1;

/** Is told of every chunk that moves; called in the middle of that, so it must neither block nor throw. */
export interface TransferObserver {
  observe(event: TransferEvent): void;
}

/** Time since `startedMs` of the monotonic clock, µs. */
export function elapsedUs(startedMs: number): number {
  return Math.round((performance.now() - startedMs) * 1000);
}
