import type { PullResult } from './control-protocol.ts';

/** Enough for all containers that a node starts in ten minutes, two hundred bytes each. */
export const RESULTS_MAX = 256;
/** Whoever reconnects after this has missed the creation of the container as well, ms. */
export const RESULT_AGE_MAX_MS = 10 * 60_000;

/** How recent pulls ended, and who is told of each. */
export class PullResults {
  readonly #nowMs: () => number;
  /** Oldest first. */
  #recent: PullResult[] = [];
  readonly #listeners = new Set<(result: PullResult) => void>();

  /** `nowMs`: milliseconds since the epoch, as in the results. */
  constructor(nowMs: () => number = Date.now) {
    this.#nowMs = nowMs;
  }

  /** Everybody has been told when it returns. */
  publish(result: PullResult): void {
    this.#recent = [...this.recent(), result].slice(-RESULTS_MAX);
    for (const listener of this.#listeners) listener(result);
  }

  /** The oldest first. */
  recent(): readonly PullResult[] {
    const oldestMs = this.#nowMs() - RESULT_AGE_MAX_MS;
    return this.#recent.filter(({ endedAtMs }) => endedAtMs > oldestMs);
  }

  get listenerCount(): number {
    return this.#listeners.size;
  }

  /** Gives the function that ends it. */
  subscribe(listener: (result: PullResult) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
