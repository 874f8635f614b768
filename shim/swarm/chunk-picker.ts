import { type Bitmap, countOnes, trailingZeros } from './bitmap.ts';
import type { Prng } from './prng.ts';

/** A uniformly random index of `[from, to)` that is in both sets; undefined when there is none. */
export function pickCommon(
  left: Bitmap,
  right: Bitmap,
  range: { from: number; to: number },
  prng: Prng,
): number | undefined {
  const total = countCommon(left, right, range.from, range.to);
  if (total === 0) return undefined;
  let skip = prng.below(total);
  for (let word = range.from >>> 5; word << 5 < range.to; word++) {
    const bits = commonWord(left, right, word, range.from, range.to);
    const ones = countOnes(bits);
    if (skip < ones) return (word << 5) + nthOne(bits, skip);
    skip -= ones;
  }
  return undefined;
}

/** Of the indexes of `[from, to)` that are in both sets one of which there are fewest `copies`, at random among equals. */
export function pickRarest(
  left: Bitmap,
  right: Bitmap,
  range: { from: number; to: number; copies: Uint8Array },
  prng: Prng,
): number | undefined {
  const { from, to, copies } = range;
  let least = Number.POSITIVE_INFINITY;
  const rarest: number[] = [];
  for (let word = from >>> 5; word << 5 < to; word++) {
    for (let bits = commonWord(left, right, word, from, to); bits !== 0; bits &= bits - 1) {
      const index = (word << 5) + trailingZeros(bits);
      const count = copies[index] as number;
      if (count > least) continue;
      if (count < least) rarest.length = 0;
      least = count;
      rarest.push(index);
    }
  }
  return rarest[prng.below(rarest.length)];
}

export function countCommon(left: Bitmap, right: Bitmap, from: number, to: number): number {
  let total = 0;
  for (let word = from >>> 5; word << 5 < to; word++)
    total += countOnes(commonWord(left, right, word, from, to));
  return total;
}

function commonWord(left: Bitmap, right: Bitmap, word: number, from: number, to: number): number {
  let bits = (left.words[word] ?? 0) & (right.words[word] ?? 0);
  const start = word << 5;
  if (start < from) bits &= 0xffffffff << (from - start);
  if (start + 32 > to) bits &= 0xffffffff >>> (start + 32 - to);
  return bits;
}

function nthOne(word: number, skip: number): number {
  let bits = word;
  for (let count = 0; count < skip; count++) bits &= bits - 1;
  return trailingZeros(bits);
}
