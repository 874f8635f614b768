/** Waits that double from `firstMs` to `maxMs`, each shortened by chance so that nodes do not keep step. */
export class BackOff {
  readonly #firstMs: number;
  readonly #maxMs: number;
  #nextMs: number;

  constructor(firstMs: number, maxMs: number) {
    this.#firstMs = firstMs;
    this.#maxMs = maxMs;
    this.#nextMs = firstMs;
  }

  /** `chance` is 0 to 1. Between half and all of the wait that is due. */
  next(chance: number): number {
    const dueMs = this.#nextMs;
    this.#nextMs = Math.min(dueMs * 2, this.#maxMs);
    return dueMs * (0.5 + chance / 2);
  }

  reset(): void {
    this.#nextMs = this.#firstMs;
  }
}
