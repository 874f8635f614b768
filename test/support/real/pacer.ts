/**
 * Time that went by unused is made up for to this extent: a busy machine wakes us late and the rate must hold all the
 * same, but a pause must not turn into a burst that shows (1 % of ten seconds).
 */
const CREDIT_MS_MAX = 100;

/**
 * Spreads bytes evenly over time. Pure: it is told the time and answers how long to wait before these bytes may go.
 * Because the waits add up from a fixed grid, late timers do not lower the rate.
 */
export class Pacer {
  readonly rateBytesPerSecond: number;
  #nextFreeMs: number | undefined;

  constructor(rateBytesPerSecond: number) {
    this.rateBytesPerSecond = rateBytesPerSecond;
  }

  /** Books the bytes and gives the milliseconds to wait, 0 for none. */
  delayMs(sizeBytes: number, nowMs: number): number {
    const startMs = Math.max(this.#nextFreeMs ?? nowMs, nowMs - CREDIT_MS_MAX);
    this.#nextFreeMs = startMs + (sizeBytes * 1000) / this.rateBytesPerSecond;
    return Math.max(0, this.#nextFreeMs - nowMs);
  }
}
