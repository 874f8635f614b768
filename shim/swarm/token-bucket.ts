import { assert } from '../base/assert.ts';

export interface TokenBucketOptions {
  readonly rateBytesPerSecond: number;
  /** Bytes that may go at once after a rest. */
  readonly burstBytes: number;
}

/**
 * A throttle that answers "when" instead of waiting. A take larger than the burst is allowed once the bucket is full
 * and leaves a debt, so large pieces pass and the mean rate still holds.
 */
export class TokenBucket {
  readonly #ratePerMs: number;
  readonly #burstBytes: number;
  #levelBytes: number;
  #atMs = Number.NEGATIVE_INFINITY;

  constructor(options: TokenBucketOptions) {
    assert(options.rateBytesPerSecond > 0 && options.burstBytes > 0, 'a throttle lets something pass');
    this.#ratePerMs = options.rateBytesPerSecond / 1000;
    this.#burstBytes = options.burstBytes;
    this.#levelBytes = options.burstBytes;
  }

  /** Takes `bytes` and returns undefined, or takes nothing and returns when to ask again, ms. */
  take(bytes: number, nowMs: number): number | undefined {
    const readyAtMs = this.readyAtMs(bytes, nowMs);
    if (readyAtMs > nowMs) return readyAtMs;
    this.#levelBytes -= bytes;
    return undefined;
  }

  /** When `bytes` can be taken, ms; `nowMs` when at once. */
  readyAtMs(bytes: number, nowMs: number): number {
    this.#refill(nowMs);
    const lackBytes = Math.min(bytes, this.#burstBytes) - this.#levelBytes;
    // A millionth of a byte of slack keeps rounding from asking for a wait that is over.
    return lackBytes <= 1e-6 ? nowMs : nowMs + lackBytes / this.#ratePerMs;
  }

  /** Forgets what was saved up, and debts as well. */
  empty(nowMs: number): void {
    this.#refill(nowMs);
    this.#levelBytes = 0;
  }

  #refill(nowMs: number): void {
    if (this.#atMs !== Number.NEGATIVE_INFINITY) {
      const gained = Math.max(0, nowMs - this.#atMs) * this.#ratePerMs;
      this.#levelBytes = Math.min(this.#burstBytes, this.#levelBytes + gained);
    }
    this.#atMs = Math.max(this.#atMs, nowMs);
  }
}
