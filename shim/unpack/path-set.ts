import { randomBytes } from 'node:crypto';

/**
 * Remembers which paths a layer wrote, in 8 bytes each: 52-bit hashes in an open table, so that 10^7 paths take 270 MB at
 * worst and never the heap. A wrong "yes" has a chance of 10^-9 per question, and only spares a file that an opaque marker hides.
 */
export class PathSet {
  readonly #seed = randomBytes(8);
  #slots = new Float64Array(1024);
  #size = 0;

  add(path: string): void {
    if ((this.#size + 1) * 4 > this.#slots.length * 3) this.#grow();
    const hash = this.#hash(path);
    const slot = this.#slotOf(hash);
    if (this.#slots[slot] === hash) return;
    this.#slots[slot] = hash;
    this.#size++;
  }

  has(path: string): boolean {
    const hash = this.#hash(path);
    return this.#slots[this.#slotOf(hash)] === hash;
  }

  #slotOf(hash: number): number {
    const mask = this.#slots.length - 1;
    let slot = hash % this.#slots.length;
    while (this.#slots[slot] !== 0 && this.#slots[slot] !== hash) slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Float64Array(old.length * 2);
    for (const hash of old) if (hash !== 0) this.#slots[this.#slotOf(hash)] = hash;
  }

  /** Two rounds of 32-bit multiply-and-mix with different seeds, joined to 52 bits; never 0, which marks a free slot. */
  #hash(path: string): number {
    let low = this.#seed.readInt32LE(0);
    let high = this.#seed.readInt32LE(4);
    for (let i = 0; i < path.length; i++) {
      const unit = path.charCodeAt(i);
      low = Math.imul(low ^ unit, 0x9e3779b1);
      low ^= low >>> 15;
      high = Math.imul(high ^ unit, 0x85ebca77);
      high ^= high >>> 13;
    }
    return (low >>> 0) * 2 ** 20 + (high >>> 12) || 1;
  }
}
