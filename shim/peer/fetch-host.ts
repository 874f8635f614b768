import type { BlobKey } from '../base/blob-key.ts';
import type { CachedBlob } from '../cache/cached-blob.ts';
import type { DiskCache } from '../cache/disk-cache.ts';
import type { PullWait } from '../swarm/swarm-node.ts';
import type { BlobFetch } from './blob-fetch.ts';
import type { RateGate } from './rate-gate.ts';
import type { ReadOrigin, Transfer } from './transfer.ts';
import type { TransferCounters } from './transfer-counters.ts';
import type { TransferLimits } from './transfer-limits.ts';
import type { TransferObserver } from './transfer-observer.ts';
import type { Turnstile } from './turnstile.ts';

/** Where missing chunks come from: the origin alone, or the swarm. */
export interface ChunkSource {
  /** Fills the missing chunks of `fetch.blob` and tells it with `chunkStored`. */
  start(fetch: BlobFetch): void;
  /** Stops, whether it started or not; resolves when nothing writes to the blob any more. */
  stop(fetch: BlobFetch): Promise<void>;
  /** `fetch.consumer` has come further. */
  consumerMoved(fetch: BlobFetch): void;
  /** The blob's digest is right and all of it is held: others may have it. */
  confirmed(blob: CachedBlob): void;
  /** Why nothing of the blob may be coming although nothing is wrong. */
  waitOf(fetch: BlobFetch): PullWait;
  /** The blob's digest was wrong: what was learned of it, and from whom, is not to be trusted. */
  distrusted(key: BlobKey): void;
}

/** What a fetch needs of the engine. */
export interface FetchHost {
  readonly cache: DiskCache;
  readonly source: ChunkSource;
  readonly limits: TransferLimits;
  readonly counters: TransferCounters;
  readonly throttle: RateGate;
  readonly downloads: Turnstile;
  readonly observer: TransferObserver | undefined;
  /** Open connections to peers. */
  readonly connections: number;
  /** When bytes of any blob last came, ms of `performance.now`. */
  lastBytesMs: number;
  /** The fetch has no consumer left, or failed: the next `open` starts anew. */
  retire(fetch: BlobFetch): void;
  /** Opens the blob again after `old` turned out wrong, from the origin alone. */
  reopen(old: BlobFetch, readOrigin: ReadOrigin): Transfer;
}
