import type { BlobKey } from '../base/blob-key.ts';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import type { BlobFetch } from './blob-fetch.ts';
import type { RateGate } from './rate-gate.ts';
import type { ReadOrigin, Transfer, TransferCounts } from './transfer.ts';

/** The largest step in which the prefix grows under a throttle: smooth, and few calls. */
const GRANT_STEP_BYTES_MAX = 1024 * 1024;

/** One pull's share in a BlobFetch: its own credentials, its own throttled prefix, its own end. */
export class TransferView implements Transfer {
  readonly key: BlobKey;
  readonly sizeBytes: number;
  readonly readOrigin: ReadOrigin;
  readonly finished: Promise<void>;
  readonly #fetch: BlobFetch;
  readonly #throttle: RateGate;
  readonly #end = Promise.withResolvers<void>();
  readonly #released = new AbortController();
  readonly #listeners = new Set<(prefixBytes: number) => void>();
  readonly #baseline: TransferCounts;
  #consumedBytes: number | undefined;
  #availableBytes = 0;
  #grantedBytes = 0;
  #granting = false;
  #allThere = false;

  constructor(fetch: BlobFetch, readOrigin: ReadOrigin, throttle: RateGate) {
    this.key = fetch.key;
    this.sizeBytes = fetch.sizeBytes;
    this.readOrigin = readOrigin;
    this.#fetch = fetch;
    this.#throttle = throttle;
    this.#baseline = fetch.counts;
    this.finished = this.#end.promise;
    // A consumer that gave up looks at `finished` no longer.
    this.finished.catch(() => undefined);
  }

  get path(): string {
    return this.#fetch.path;
  }

  get prefixBytes(): number {
    return this.#grantedBytes;
  }

  get isProven(): boolean {
    return this.#fetch.isProven;
  }

  get counts(): TransferCounts {
    const now = this.#fetch.counts;
    const base = this.#baseline;
    return {
      originBytes: now.originBytes - base.originBytes,
      peerBytes: now.peerBytes - base.peerBytes,
      cacheBytes: now.cacheBytes + base.originBytes + base.peerBytes,
    };
  }

  /** Aborted when this pull needs the blob no longer: its credentials are not used after that. */
  get releasedSignal(): AbortSignal {
    return this.#released.signal;
  }

  get isHeldBack(): boolean {
    return this.#fetch.isHeldBack;
  }

  /** How far its consumer is: without its word as far as it could be. */
  get consumer(): { readonly offsetBytes: number; readonly setsPace: boolean } {
    return {
      offsetBytes: this.#consumedBytes ?? this.#grantedBytes,
      setsPace: this.#consumedBytes !== undefined,
    };
  }

  consumed(bytes: number): void {
    this.#consumedBytes = Math.max(bytes, this.#consumedBytes ?? 0);
    this.#fetch.consumerMoved();
  }

  onPrefix(listener: (prefixBytes: number) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  seal(): Promise<void> {
    return this.#fetch.blob.seal();
  }

  confirm(): Promise<void> {
    return this.#fetch.confirm();
  }

  async distrust(): Promise<Transfer> {
    const fetch = this.#fetch;
    this.#endView();
    return fetch.distrust(this);
  }

  release(): void {
    if (this.#released.signal.aborted) return;
    this.#endView();
    this.#fetch.leave(this);
  }

  /** Called by the fetch: the first `availableBytes` of the file are verified. */
  offer(availableBytes: number, allThere: boolean): void {
    this.#availableBytes = Math.max(this.#availableBytes, availableBytes);
    this.#allThere = allThere;
    if (!this.#granting) this.#grant();
  }

  fail(error: unknown): void {
    this.#end.reject(error);
  }

  #grant(): void {
    this.#granting = true;
    while (this.#grantedBytes < this.#availableBytes && !this.#released.signal.aborted) {
      const left = this.#availableBytes - this.#grantedBytes;
      const step = Math.min(left, Math.max(1, Math.min(GRANT_STEP_BYTES_MAX, this.#throttle.stepBytes)));
      const bytes = this.#throttle.stepBytes === Number.MAX_SAFE_INTEGER ? left : step;
      const wait = this.#throttle.take(bytes);
      if (wait !== undefined) {
        void wait.then(() => {
          this.#hand(bytes);
          this.#grant();
        });
        return;
      }
      this.#hand(bytes);
    }
    this.#granting = false;
    if (this.#allThere && this.#grantedBytes === this.sizeBytes) this.#end.resolve();
  }

  #hand(bytes: number): void {
    this.#grantedBytes += bytes;
    this.#fetch.handedOut(bytes);
    for (const listener of this.#listeners) listener(this.#grantedBytes);
  }

  #endView(): void {
    this.#released.abort();
    this.#listeners.clear();
    this.#end.reject(
      new ShoalError(ErrorCode.Cancelled, `Cannot finish "${this.key.digest}": the pull needs it no longer`),
    );
  }
}
