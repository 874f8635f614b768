/** So many more ticks with requests under way than without: nothing is stalled. */
const MOVING_TICKS = 10;

/** Peers that answer that they are busy serve others, as a rule: a stall is then what lasts longer than so many chunk times. */
const BUSY_CHUNKS = 4;
/** Same, at most: so many times the limit that holds otherwise. */
const BUSY_FACTOR_MAX = 4;
/** An answer counts for so long, ms. */
const BUSY_MS = 1_000;

/** What a blob may be waiting for, besides chunks that do not come. */
export const PullWait = {
  None: 'none',
  /** The origin may not be read now, or the consumer has to come further. */
  Leave: 'leave',
  /** Blobs that were wanted before it. */
  Others: 'others',
} as const;
export type PullWait = (typeof PullWait)[keyof typeof PullWait];

/** What a tick of a pull sees. */
export interface StallSight {
  /** Neighbours offer what is missing and not under way. */
  readonly hasOpen: boolean;
  /** A chunk has been asked of a peer, of any blob. */
  readonly hasRequests: boolean;
  /** This node reads the blob at the origin, and does not just wait for the budget. */
  readonly isReading: boolean;
}

/** For how long peers have offered chunks of which none was on its way: holders that lie, are always busy, or are gone. */
export class StallWatch {
  readonly #limitMs: number;
  #sinceMs: number | undefined;
  /** Ticks with requests under way, less those without; 0 to `MOVING_TICKS`. */
  #movingTicks = 0;
  #busyUntilMs = Number.NEGATIVE_INFINITY;
  #busyLimitMs = 0;

  /** Standing still for `limitMs` is a stall; less is a moment between two requests. */
  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  stalledMs(nowMs: number): number {
    return this.#sinceMs === undefined ? 0 : nowMs - this.#sinceMs;
  }

  isStalled(nowMs: number): boolean {
    const limitMs = nowMs < this.#busyUntilMs ? this.#busyLimitMs : this.#limitMs;
    return this.stalledMs(nowMs) >= limitMs;
  }

  /** A peer has answered that it has no room for a request. A chunk usually takes `chunkMs`; 0 as long as none has come. */
  handleBusy(chunkMs: number, nowMs: number): void {
    this.#busyUntilMs = nowMs + BUSY_MS;
    const mostMs = BUSY_FACTOR_MAX * this.#limitMs;
    this.#busyLimitMs =
      chunkMs === 0 ? mostMs : Math.min(mostMs, Math.max(this.#limitMs, BUSY_CHUNKS * chunkMs));
  }

  /** A stall outlasts its cure, which is a read of one run: it ends with the last read, or when peers send again for a while. */
  handleTick({ hasOpen, hasRequests, isReading }: StallSight, nowMs: number): void {
    this.#movingTicks = Math.min(MOVING_TICKS, Math.max(0, this.#movingTicks + (hasRequests ? 1 : -1)));
    const isCured = !this.isStalled(nowMs) || !isReading || this.#movingTicks >= MOVING_TICKS;
    if (hasOpen && !hasRequests) this.#sinceMs ??= nowMs;
    else if (isCured) this.#sinceMs = undefined;
  }
}

/**
 * Whether a blob waits for others, of all that are being pulled in the order in which they were wanted: requests and places at the
 * origin go to the first.
 */
export function isBehindOthers<Pull extends { readonly isUnderWay: boolean }>(
  pull: Pull | undefined,
  pulling: ReadonlySet<Pull>,
): boolean {
  if (pull === undefined || !pulling.has(pull)) return false;
  for (const earlier of pulling) {
    if (earlier === pull) return false;
    if (earlier.isUnderWay) return true;
  }
  return false;
}
