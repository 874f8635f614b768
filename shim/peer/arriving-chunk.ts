import { createHash, type Hash } from 'node:crypto';
import type { ChunkTarget } from './frame-reader.ts';

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
    this.#hash.update(this.buffer.subarray(this.#filledBytes, this.#filledBytes + count));
    this.#filledBytes += count;
  }

  done(): void {
    this.#onEnd(this, this.#hash.digest().equals(this.#expected) ? 'right' : 'wrong');
  }

  broken(): void {
    this.#onEnd(this, 'broken');
  }
}
