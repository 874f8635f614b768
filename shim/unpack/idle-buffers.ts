/**
 * Buffers of one size that a thread keeps from one job to the next. Fresh ones cost a page fault every 4 KiB, and tell V8 of so much
 * memory outside its heap that it collects the whole heap after every few small layers.
 */
export class IdleBuffers {
  readonly #sizeBytes: number;
  readonly #countMax: number;
  readonly #idle: Buffer[] = [];

  constructor(sizeBytes: number, countMax: number) {
    this.#sizeBytes = sizeBytes;
    this.#countMax = countMax;
  }

  take(): Buffer {
    return this.#idle.pop() ?? Buffer.allocUnsafeSlow(this.#sizeBytes);
  }

  /** Nobody reads or writes it any more. */
  give(buffer: Buffer): void {
    if (this.#idle.length < this.#countMax) this.#idle.push(buffer);
  }
}
