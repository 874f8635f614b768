/** A node's own monotonic clock: it starts anywhere and may run fast or slow, but never backwards. */
export class SimClock {
  #offsetMs: number;
  #rate = 1;

  constructor(offsetMs: number) {
    this.#offsetMs = offsetMs;
  }

  localMs(worldMs: number): number {
    return worldMs * this.#rate + this.#offsetMs;
  }

  /** Never before the local time it is made from: a wake-up may come late but not early by rounding. */
  worldMs(localMs: number): number {
    return this.#rate === 1 ? localMs - this.#offsetMs : (localMs - this.#offsetMs) / this.#rate + 1e-6;
  }

  skew(options: { readonly jumpMs: number; readonly percent: number }, worldMs: number): void {
    const localMs = this.localMs(worldMs) + options.jumpMs;
    this.#rate = 1 + options.percent / 100;
    this.#offsetMs = localMs - worldMs * this.#rate;
  }
}
