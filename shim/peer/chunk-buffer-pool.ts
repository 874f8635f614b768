import { assert } from '../base/assert.ts';

/** Buffers kept for the next chunk when nobody uses them: 8 MiB. More than that is given back to the system. */
const IDLE_BUFFERS_MAX = 4;

/** Buffers of one chunk each, used again and again: nothing is allocated per chunk while traffic is steady. */
export class ChunkBufferPool {
  readonly #sizeBytes: number;
  readonly #wanted: number;
  readonly #idle: Buffer[] = [];
  readonly #waiting = new Set<() => void>();
  #inUse = 0;

  /** `buffersMax` is what `isFull` speaks of; takers are not stopped by it, readers of sockets are. */
  constructor(sizeBytes: number, buffersMax: number) {
    this.#sizeBytes = sizeBytes;
    this.#wanted = buffersMax;
  }

  get isFull(): boolean {
    return this.#inUse >= this.#wanted;
  }

  take(): Buffer {
    this.#inUse += 1;
    return this.#idle.pop() ?? Buffer.allocUnsafeSlow(this.#sizeBytes);
  }

  give(buffer: Buffer): void {
    assert(buffer.length === this.#sizeBytes && this.#inUse > 0, 'a pool gets back what it gave');
    this.#inUse -= 1;
    if (this.#idle.length < IDLE_BUFFERS_MAX || this.#inUse > 0) this.#idle.push(buffer);
    if (this.#inUse === 0) this.#idle.length = Math.min(this.#idle.length, IDLE_BUFFERS_MAX);
    if (this.isFull) return;
    for (const go of [...this.#waiting]) go();
    this.#waiting.clear();
  }

  /** Calls `go` once when the pool is not full any more. */
  whenFree(go: () => void): void {
    this.#waiting.add(go);
  }
}
