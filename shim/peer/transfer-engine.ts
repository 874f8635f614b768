import { assert } from '../base/assert.ts';
import { type BlobKey, blobKeyId } from '../base/blob-key.ts';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import type { DiskCache } from '../cache/disk-cache.ts';
import { BlobFetch, type ChunkSource, type FetchHost } from './blob-fetch.ts';
import { OriginOnlySource } from './origin-only-source.ts';
import { OriginReads } from './origin-reads.ts';
import { RateGate } from './rate-gate.ts';
import type { ReadOrigin, Transfer, TransferEngine, TransferRequest } from './transfer.ts';
import { newTransferCounters, type TransferCounters } from './transfer-counters.ts';
import { DEFAULT_TRANSFER_LIMITS, type TransferLimits } from './transfer-limits.ts';
import { Turnstile } from './turnstile.ts';

export interface TransferEngineOptions {
  readonly cache: DiskCache;
  readonly limits?: Partial<TransferLimits>;
}

/** A TransferEngine with what operators want to see of it. */
export interface RunningTransferEngine extends TransferEngine {
  readonly counters: TransferCounters;
}

/** Starts the engine. Its owner closes it, and after it the cache. */
export async function createTransferEngine(options: TransferEngineOptions): Promise<RunningTransferEngine> {
  return new Engine(options);
}

class Engine implements RunningTransferEngine, FetchHost {
  readonly cache: DiskCache;
  readonly limits: TransferLimits;
  readonly counters = newTransferCounters();
  readonly throttle: RateGate;
  readonly downloads: Turnstile;
  readonly source: ChunkSource;
  readonly #originRate: RateGate;
  readonly #fetches = new Map<string, BlobFetch>();
  /** Fetches that ended and may still touch the cache, by blob. */
  readonly #stopping = new Map<string, Promise<void>>();
  #closed = false;

  constructor(options: TransferEngineOptions) {
    this.cache = options.cache;
    this.limits = { ...DEFAULT_TRANSFER_LIMITS, ...options.limits };
    this.throttle = new RateGate(this.limits.localBytesPerSecond);
    this.downloads = new Turnstile(this.limits.downloadsMax);
    this.#originRate = new RateGate(this.limits.originBytesPerSecond);
    const reads = new OriginReads({ limits: this.limits, counters: this.counters, rate: this.#originRate });
    this.source = new OriginOnlySource(reads);
  }

  open(request: TransferRequest): Transfer {
    assert(!this.#closed, 'nothing is opened in a closed transfer engine');
    this.counters.blobsOpened += 1;
    const id = blobKeyId(request.key);
    const running = this.#fetches.get(id);
    if (running?.sizeBytes === request.sizeBytes) return running.join(request.readOrigin);
    if (running !== undefined) return this.#refuse(request, running.sizeBytes);
    return this.#start(request.key, request.sizeBytes, false).join(request.readOrigin);
  }

  async adopt(key: BlobKey, path: string, sizeBytes: number): Promise<void> {
    await this.cache.adopt(key, path, sizeBytes);
  }

  retire(fetch: BlobFetch): void {
    const id = blobKeyId(fetch.key);
    if (this.#fetches.get(id) !== fetch) return;
    this.#fetches.delete(id);
    this.#waitFor(id, fetch.stopped);
  }

  reopen(old: BlobFetch, readOrigin: ReadOrigin): Transfer {
    const id = blobKeyId(old.key);
    const running = this.#fetches.get(id);
    if (running !== undefined && running !== old && running.originOnly) return running.join(readOrigin);
    const blob = this.cache.get(old.key);
    this.retire(old);
    running?.fail(
      new ShoalError(ErrorCode.CacheCorrupt, `Cannot use "${old.key.digest}": its digest was wrong`),
    );
    if (blob !== undefined) this.#waitFor(id, this.cache.drop(blob));
    return this.#start(old.key, old.sizeBytes, true).join(readOrigin);
  }

  async close(): Promise<void> {
    this.#closed = true;
    const reason = new ShoalError(ErrorCode.Cancelled, 'Cannot fetch: the transfer engine was closed');
    for (const fetch of this.#fetches.values()) fetch.fail(reason);
    this.throttle.close();
    this.#originRate.close();
    await Promise.all(this.#stopping.values());
  }

  /** The next fetch of the blob begins after `work`, and after all that was to be waited for before. */
  #waitFor(id: string, work: Promise<void>): void {
    const settled = Promise.all([this.#stopping.get(id), work]).then(() => {
      if (this.#stopping.get(id) === settled) this.#stopping.delete(id);
    });
    this.#stopping.set(id, settled);
  }

  /** Two pulls that disagree about the size of one digest: the later one fails, so it cannot harm the earlier one. */
  #refuse(request: TransferRequest, otherBytes: number): Transfer {
    const fetch = new BlobFetch(this, request.key, request.sizeBytes, Promise.resolve(), false);
    const view = fetch.join(request.readOrigin);
    fetch.fail(sizeConflict(request, otherBytes));
    return view;
  }

  #start(key: BlobKey, sizeBytes: number, originOnly: boolean): BlobFetch {
    const id = blobKeyId(key);
    const before = this.#stopping.get(id) ?? Promise.resolve();
    const fetch = new BlobFetch(this, key, sizeBytes, before, originOnly);
    this.#fetches.set(id, fetch);
    return fetch;
  }
}

function sizeConflict(request: TransferRequest, otherBytes: number): ShoalError {
  return new ShoalError(
    ErrorCode.SizeMismatch,
    `Cannot fetch "${request.key.digest}": wanted with ${request.sizeBytes} and with ${otherBytes} bytes at once`,
  );
}
