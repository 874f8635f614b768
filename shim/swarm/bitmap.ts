/**
 * A fixed-length set of chunk indexes. On the wire bit `i` is bit `i & 7` (lowest first) of byte `i >> 3`,
 * and the unused bits of the last byte are zero.
 */
export class Bitmap {
  readonly length: number;
  /** Bit `i` is bit `i & 31` of word `i >> 5`. Read-only for everybody but this class. */
  readonly words: Uint32Array;
  #count = 0;

  constructor(length: number) {
    this.length = length;
    this.words = new Uint32Array((length + 31) >>> 5);
  }

  static full(length: number): Bitmap {
    const bitmap = new Bitmap(length);
    bitmap.words.fill(0xffffffff);
    if ((length & 31) !== 0) bitmap.words[bitmap.words.length - 1] = 2 ** (length & 31) - 1;
    bitmap.#count = length;
    return bitmap;
  }

  /** Undefined when `bytes` does not have the size of `length` bits or sets a bit past the end. */
  static fromBytes(bytes: Uint8Array, length: number): Bitmap | undefined {
    if (bytes.length !== (length + 7) >>> 3) return undefined;
    const bitmap = new Bitmap(length);
    for (let index = 0; index < bytes.length; index++) {
      const byte = bytes[index] as number;
      bitmap.words[index >>> 2] = (bitmap.words[index >>> 2] as number) | (byte << ((index & 3) << 3));
    }
    const tailBits = length & 31;
    const last = bitmap.words[bitmap.words.length - 1] ?? 0;
    if (tailBits !== 0 && last >>> tailBits !== 0) return undefined;
    for (const word of bitmap.words) bitmap.#count += countOnes(word);
    return bitmap;
  }

  get count(): number {
    return this.#count;
  }

  get isFull(): boolean {
    return this.#count === this.length;
  }

  has(index: number): boolean {
    return (
      index >= 0 && index < this.length && (((this.words[index >>> 5] as number) >>> (index & 31)) & 1) === 1
    );
  }

  /** Whether the set changed. */
  add(index: number): boolean {
    if (index < 0 || index >= this.length || this.has(index)) return false;
    this.words[index >>> 5] = (this.words[index >>> 5] as number) | (1 << (index & 31));
    this.#count++;
    return true;
  }

  /** Whether the set changed. */
  delete(index: number): boolean {
    if (!this.has(index)) return false;
    this.words[index >>> 5] = (this.words[index >>> 5] as number) & ~(1 << (index & 31));
    this.#count--;
    return true;
  }

  clear(): void {
    this.words.fill(0);
    this.#count = 0;
  }

  clone(): Bitmap {
    const copy = new Bitmap(this.length);
    copy.words.set(this.words);
    copy.#count = this.#count;
    return copy;
  }

  /** First index ≥ `from` that is not in the set; `length` when there is none. */
  firstMissing(from = 0): number {
    if (from >= this.length) return this.length;
    let word = from >>> 5;
    let free = ~(this.words[word] as number) & (0xffffffff << (from & 31));
    while (free === 0) {
      word++;
      if (word >= this.words.length) return this.length;
      free = ~(this.words[word] as number);
    }
    return Math.min(this.length, (word << 5) + trailingZeros(free));
  }

  /** The end of the shortest prefix in which `count` indexes are missing; `length` when there are fewer. */
  endOfMissing(count: number): number {
    let left = count;
    for (let word = 0; word < this.words.length; word++) {
      const missing = countOnes(~(this.words[word] as number));
      if (missing < left) {
        left -= missing;
        continue;
      }
      let free = ~(this.words[word] as number);
      for (let skip = 1; skip < left; skip++) free &= free - 1;
      return Math.min(this.length, (word << 5) + trailingZeros(free) + 1);
    }
    return this.length;
  }

  /** First index of `[from, to)` that is in the set; undefined when there is none. */
  firstPresent(from: number, to = this.length): number | undefined {
    const end = Math.min(to, this.length);
    if (from >= end) return undefined;
    let word = from >>> 5;
    let bits = (this.words[word] as number) & (0xffffffff << (from & 31));
    while (bits === 0) {
      word++;
      if (word << 5 >= end) return undefined;
      bits = this.words[word] as number;
    }
    const index = (word << 5) + trailingZeros(bits);
    return index < end ? index : undefined;
  }

  /** The indexes of the set, ascending. */
  toArray(): number[] {
    const indexes: number[] = [];
    for (let word = 0; word < this.words.length; word++) {
      let bits = this.words[word] as number;
      while (bits !== 0) {
        indexes.push((word << 5) + trailingZeros(bits));
        bits &= bits - 1;
      }
    }
    return indexes;
  }

  /** Whether every index of `other`, a set of the same length, is in this one. */
  includes(other: Bitmap): boolean {
    for (let word = 0; word < this.words.length; word++) {
      if (((other.words[word] ?? 0) & ~(this.words[word] as number)) !== 0) return false;
    }
    return true;
  }

  toBytes(): Uint8Array {
    const bytes = new Uint8Array((this.length + 7) >>> 3);
    for (let index = 0; index < bytes.length; index++) {
      bytes[index] = (this.words[index >>> 2] as number) >>> ((index & 3) << 3);
    }
    return bytes;
  }
}

export function countOnes(word: number): number {
  let bits = word - ((word >>> 1) & 0x55555555);
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Index of the lowest bit that is one; 32 for zero. */
export function trailingZeros(word: number): number {
  return word === 0 ? 32 : 31 - Math.clz32(word & -word);
}
