import * as assert from 'uvu/assert';

/** Each file takes this long, s: all of them together a few seconds, for they are part of every test run. */
const SECONDS_DEFAULT = 3;
/** Above what the process has at the start: one input needs a few megabytes. */
const MEMORY_BYTES_MAX = 300_000_000;

const { FUZZ_SEED, FUZZ_SECONDS } = process.env;
const firstSeed = Number(FUZZ_SEED || Date.now() % 1_000_000);
const isSingle = Boolean(FUZZ_SEED) && !FUZZ_SECONDS;

/** A whole number from 0 to below the argument. */
export type Random = (below: number) => number;

/** mulberry32: small, seedable, good enough to choose bytes. */
export function randomFrom(seed: number): Random {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

export function pick<Item>(items: readonly Item[], random: Random): Item {
  return items[random(items.length)] as Item;
}

/** Flips, cuts, repeats and inserts bytes; about one in six stays as it is. */
export function damage(bytes: Buffer, random: Random): Buffer {
  const result = Buffer.from(bytes);
  for (let count = random(6); count > 0 && result.length > 0; count--)
    result[random(result.length)] = pick([random(256), 0, 1, 0x7f, 0x80, 0xff], random);
  if (random(4) === 0) return result.subarray(0, random(result.length + 1));
  return random(8) === 0 ? Buffer.concat([result, result.subarray(random(result.length + 1))]) : result;
}

/**
 * Runs `body` with one seed after the other for its share of the file's time; prints the seed that failed.
 * `FUZZ_SEED` sets the first seed, and alone runs only that one; `FUZZ_SECONDS` sets the time of a file.
 */
export async function repeat(body: (random: Random) => Promise<void> | void, share = 1): Promise<void> {
  const untilMs = performance.now() + Number(FUZZ_SECONDS || SECONDS_DEFAULT) * share * 1_000;
  const baseBytes = process.memoryUsage().rss;
  for (let seed = firstSeed; ; seed++) {
    try {
      await body(randomFrom(seed));
      // Native memory is given back between turns of the event loop.
      if (seed % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
      const grownBytes = process.memoryUsage.rss() - baseBytes;
      assert.ok(grownBytes < MEMORY_BYTES_MAX, `${grownBytes} bytes more`);
    } catch (error) {
      console.error(`FUZZ_SEED=${seed} repeats this`);
      throw error;
    }
    if (isSingle || performance.now() > untilMs) {
      console.log(`seeds ${firstSeed}–${seed}`);
      return;
    }
  }
}

/** Whatever the input was: what went wrong with it is one of our errors, with one of these codes. */
export function expectOurs(error: unknown, isExpected: (error: unknown) => boolean): void {
  assert.ok(isExpected(error), error instanceof Error ? error.stack : String(error));
}
