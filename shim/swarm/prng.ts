/** A small seeded generator (mulberry32): same seed, same sequence, on every machine. Not for secrets. */
export class Prng {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A uniform 32-bit unsigned integer. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  /** Uniform in `[0, limit)`; 0 for a limit below 2. */
  below(limit: number): number {
    return limit < 2 ? 0 : Math.floor((this.next() / 2 ** 32) * limit);
  }

  /** Whether an event of probability `numerator / denominator` happens. */
  chance(numerator: number, denominator: number): boolean {
    return this.next() * denominator < numerator * 2 ** 32;
  }

  /** `value` spread evenly by ±`percent`. */
  jitter(value: number, percent: number): number {
    return value * (1 + ((this.next() / 2 ** 31 - 1) * percent) / 100);
  }

  /** Puts the first `count` places of `items` into random order. */
  shuffle<T>(items: T[], count = items.length): T[] {
    for (let index = 0; index < Math.min(count, items.length); index++) {
      const other = index + this.below(items.length - index);
      const kept = items[index] as T;
      items[index] = items[other] as T;
      items[other] = kept;
    }
    return items;
  }
}
