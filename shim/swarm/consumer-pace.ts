import { DEFAULT_LIMITS, type SwarmLimits } from './limits.ts';

/** One that waits for chunks is not behind: chunks are chosen from so many times as far, which keeps those of different nodes different. */
const HUNGRY_SHARES = 2;

/**
 * How far ahead of their consumers blobs may be fetched. What comes long before it is unpacked leaves the page cache, and is
 * read from the disk again: by the unpacker, and for peers, who ask for it while they are where this node was.
 */
export class ConsumerPace {
  readonly #limits: SwarmLimits;
  /** Blobs whose consumer has not come to the end, in the order in which they were wanted, and whether it has begun. */
  readonly #consumed = new Map<string, boolean>();
  #begun = 0;

  constructor(limits: SwarmLimits) {
    this.#limits = limits;
  }

  setConsumer(keyId: string, hasBegun: boolean): void {
    if (hasBegun && this.#consumed.get(keyId) !== true) this.#begun++;
    this.#consumed.set(keyId, hasBegun || this.#consumed.get(keyId) === true);
  }

  /** The consumer has had all, or wants nothing more. */
  end(keyId: string): void {
    if (this.#consumed.get(keyId) === true) this.#begun--;
    this.#consumed.delete(keyId);
  }

  /**
   * Consumers that are at work share what may be ahead of them; one that waits for its turn, behind others, gets enough to
   * begin with. Endless for a blob without a consumer that sets a pace.
   */
  aheadChunks(keyId: string, isHungry: boolean): number {
    const hasBegun = this.#consumed.get(keyId);
    if (hasBegun === undefined) return Number.POSITIVE_INFINITY;
    const { aheadChunks, aheadChunksMin } = this.#limits;
    const isFirst = this.#consumed.keys().next().value === keyId;
    if (!hasBegun && !isFirst) return aheadChunksMin;
    const chunks = aheadChunks * (isHungry ? HUNGRY_SHARES : 1);
    return Math.max(aheadChunksMin, Math.floor(chunks / Math.max(1, this.#begun)));
  }
}

/** What the default limits are made for. */
const DEFAULT_MEMORY_BYTES = 2 ** 30;

/** How far ahead may be fetched where page cache and process together have `memoryBytes`: in proportion, and never less than by default. */
export function paceForMemory(memoryBytes: number): Pick<SwarmLimits, 'aheadChunks' | 'aheadChunksMin'> {
  const factor = Math.max(1, memoryBytes / DEFAULT_MEMORY_BYTES);
  return {
    aheadChunks: Math.floor(DEFAULT_LIMITS.aheadChunks * factor),
    aheadChunksMin: Math.floor(DEFAULT_LIMITS.aheadChunksMin * factor),
  };
}
