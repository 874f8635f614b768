/** An idle pacer saves up this much time's worth of bytes at most, so that pauses do not turn into bursts. */
const CREDIT_MS_MAX = 10;

/**
 * Spreads bytes evenly over time. Pure: it is told the time and answers how long to wait before these bytes may go.
 * Because the waits add up from a fixed grid, late timers do not lower the rate.
 */
export class Pacer {
  readonly rateBytesPerSecond: number;
  #nextFreeMs = Number.NEGATIVE_INFINITY;

  constructor(rateBytesPerSecond: number) {
    this.rateBytesPerSecond = rateBytesPerSecond;
  }

  /** Books the bytes and gives the milliseconds to wait, 0 for none. */
  delayMs(sizeBytes: number, nowMs: number): number {
    const startMs = Math.max(this.#nextFreeMs, nowMs - CREDIT_MS_MAX);
    this.#nextFreeMs = startMs + (sizeBytes * 1000) / this.rateBytesPerSecond;
    return Math.max(0, this.#nextFreeMs - nowMs);
  }
}
