import { createHash, type Hash } from 'node:crypto';
import type { ChunkTarget } from './frame-reader.ts';

/** Bytes hashed at a time: what TLS gives is 16 KiB, and more than this is no longer in the processor's cache. */
const HASH_STEP_BYTES = 128 * 1024;

/** What became of the bytes: whole with the expected hash, whole with another one, or not whole. */
export type ArrivalOutcome = 'right' | 'wrong' | 'broken';

/** One chunk on its way in from a peer: hashed as it arrives, so nothing is read twice. */
export class ArrivingChunk implements ChunkTarget {
  readonly buffer: Buffer;
  readonly startedMs = performance.now();
  readonly #hash: Hash = createHash('sha256');
  readonly #expected: Uint8Array;
  readonly #onEnd: (arrival: ArrivingChunk, outcome: ArrivalOutcome) => void;
  #filledBytes = 0;
  #hashedBytes = 0;

  constructor(
    buffer: Buffer,
    expectedHash: Uint8Array,
    onEnd: (arrival: ArrivingChunk, outcome: ArrivalOutcome) => void,
  ) {
    this.buffer = buffer;
    this.#expected = expectedHash;
    this.#onEnd = onEnd;
  }

  filled(count: number): void {
    this.#filledBytes += count;
    if (this.#filledBytes - this.#hashedBytes >= HASH_STEP_BYTES) this.#hashOn();
  }

  done(): void {
    this.#hashOn();
    this.#onEnd(this, this.#hash.digest().equals(this.#expected) ? 'right' : 'wrong');
  }

  broken(): void {
    this.#onEnd(this, 'broken');
  }

  #hashOn(): void {
    this.#hash.update(this.buffer.subarray(this.#hashedBytes, this.#filledBytes));
    this.#hashedBytes = this.#filledBytes;
  }
}
