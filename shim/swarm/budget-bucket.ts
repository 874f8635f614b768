import { BLOB_SIZE_MAX_BYTES, CHUNK_SIZE_BYTES } from './limits.ts';
import { TokenBucket } from './token-bucket.ts';

/** What all nodes together may read from one registry host. */
export interface OriginLimits {
  /** 0: no limit. */
  readonly bytesPerSecond: number;
  /** Ranges of layers; 0: no limit. */
  readonly requestsPerSecond: number;
}

/** An amount of both. */
export interface BudgetAmount {
  readonly bytes: number;
  readonly requests: number;
}

/** Burst as time: 1 % of the 10 s over which limits are judged. */
const BURST_MS = 100;
/** What one grant allows, as time at the limit: short enough to share evenly, long enough that grants cost nothing. */
const GRANT_MS = 250;

/** Where requests are dear, one grant allows this many times the bytes that come with a request: runs do not divide evenly. */
const REQUEST_BYTES_FACTOR = 2;

/** The most bytes that one grant, which is one request, allows: whole chunks. */
export function grantBytesMax({ bytesPerSecond, requestsPerSecond }: OriginLimits): number {
  if (bytesPerSecond === 0) return BLOB_SIZE_MAX_BYTES;
  const seconds = requestsPerSecond === 0 ? 0 : REQUEST_BYTES_FACTOR / requestsPerSecond;
  const bytes = bytesPerSecond * Math.max(GRANT_MS / 1000, seconds);
  return Math.min(BLOB_SIZE_MAX_BYTES, Math.max(1, Math.ceil(bytes / CHUNK_SIZE_BYTES)) * CHUNK_SIZE_BYTES);
}

/** Bytes and requests that flow in at their rates and are taken together. */
export class BudgetBucket {
  readonly #bytes: TokenBucket | undefined;
  readonly #requests: TokenBucket | undefined;

  constructor(limits: OriginLimits) {
    const { bytesPerSecond, requestsPerSecond } = limits;
    this.#bytes = bucketOf(bytesPerSecond, grantBytesMax(limits));
    this.#requests = bucketOf(requestsPerSecond, 1);
  }

  /** Takes the amount and returns undefined, or takes nothing and returns when to ask again, ms. */
  take({ bytes, requests }: BudgetAmount, nowMs: number): number | undefined {
    const readyAtMs = Math.max(
      this.#bytes?.readyAtMs(bytes, nowMs) ?? nowMs,
      this.#requests?.readyAtMs(requests, nowMs) ?? nowMs,
    );
    if (readyAtMs > nowMs) return readyAtMs;
    this.#bytes?.take(bytes, nowMs);
    this.#requests?.take(requests, nowMs);
    return undefined;
  }

  empty(nowMs: number): void {
    this.#bytes?.empty(nowMs);
    this.#requests?.empty(nowMs);
  }
}

/** Holds one grant and the burst: so what is granted late, because the process was busy, is not lost. */
function bucketOf(ratePerSecond: number, grantMax: number): TokenBucket | undefined {
  if (ratePerSecond === 0) return undefined;
  const burstBytes = grantMax + (ratePerSecond * BURST_MS) / 1000;
  return new TokenBucket({ rateBytesPerSecond: ratePerSecond, burstBytes });
}
