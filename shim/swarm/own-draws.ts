import type { Prng } from './prng.ts';

/** When a node without lease and chunk draws for reading by itself. */
export interface DrawRule {
  /** Time between the first two draws, ms. */
  readonly intervalMs: number;
  /** Each time between two draws is so many times the one before it. */
  readonly growth: number;
  /** Read at most so many chunks. */
  readonly chunksMax: number;
}

/** Nothing else is to be expected: directories are gone, or neighbours give nothing. */
export const DRAWS_WITHOUT_HELP: DrawRule = {
  intervalMs: 1_000,
  growth: 1,
  chunksMax: Number.POSITIVE_INFINITY,
};
/** Nobody offers what is missing. A slow origin looks like that until a chunk of it has come, and gets slower with each that reads. */
export const DRAWS_WHEN_STARVED: DrawRule = { intervalMs: 10_000, growth: 2, chunksMax: 1 };

/**
 * Reads of nodes that cannot ask each other: each reads with probability 1/N in the first interval, twice that in the next,
 * and so on, so that what all of them read together stays near one copy.
 */
export class OwnDraws {
  readonly #prng: Prng;
  #draws = 0;
  #dueMs = Number.NEGATIVE_INFINITY;

  constructor(prng: Prng) {
    this.#prng = prng;
  }

  /** The need is over: the next one begins with small odds again. */
  reset(): void {
    this.#draws = 0;
  }

  /** Whether this node, one of `memberCount`, reads now. False between two draws. */
  isDrawn(rule: DrawRule, memberCount: number, nowMs: number): boolean {
    if (nowMs < this.#dueMs) return false;
    this.#dueMs = nowMs + rule.intervalMs * rule.growth ** this.#draws;
    const odds = Math.min(memberCount, 2 ** this.#draws);
    // Everybody reads by then: more would change nothing.
    if (odds < memberCount) this.#draws++;
    return this.#prng.chance(odds, memberCount);
  }
}
