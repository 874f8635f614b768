/** So many more ticks with requests under way than without: nothing is stalled. */
const MOVING_TICKS = 10;

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

  /** Standing still for `limitMs` is a stall; less is a moment between two requests. */
  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  stalledMs(nowMs: number): number {
    return this.#sinceMs === undefined ? 0 : nowMs - this.#sinceMs;
  }

  isStalled(nowMs: number): boolean {
    return this.stalledMs(nowMs) >= this.#limitMs;
  }

  /** A stall outlasts its cure, which is a read of one run: it ends with the last read, or when peers send again for a while. */
  handleTick({ hasOpen, hasRequests, isReading }: StallSight, nowMs: number): void {
    this.#movingTicks = Math.min(MOVING_TICKS, Math.max(0, this.#movingTicks + (hasRequests ? 1 : -1)));
    const isCured = !this.isStalled(nowMs) || !isReading || this.#movingTicks >= MOVING_TICKS;
    if (hasOpen && !hasRequests) this.#sinceMs ??= nowMs;
    else if (isCured) this.#sinceMs = undefined;
  }
}
