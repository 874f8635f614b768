import { IdleBuffers } from './idle-buffers.ts';

/** One piece of inflated tar, bytes: large enough that waking the other thread is little beside the work. */
const OUTPUT_BYTES = 1024 * 1024;
/** One is inflated into, one is consumed, and one evens out steps that take longer than others. */
const OUTPUTS = 3;
/** Consumed between two looks at the pool, bytes: hashed and written while it is in the processor's cache. */
const PART_BYTES = 128 * 1024;

const idle = new IdleBuffers(OUTPUT_BYTES, OUTPUTS);

/** Buffers between inflating and what hashes and writes: full ones are consumed in their order, part by part. */
export class OutputQueue {
  readonly #consume: (part: Buffer) => void;
  readonly #free = Array.from({ length: OUTPUTS }, (): Buffer => idle.take());
  readonly #full: Buffer[] = [];
  /** Of the first full one. */
  #consumedBytes = 0;

  /** What `consume` throws, the method throws that called it; the queue is of no use then. */
  constructor(consume: (part: Buffer) => void) {
    this.#consume = consume;
  }

  /** A buffer to inflate into; consumes until there is one. */
  take(): Buffer {
    for (;;) {
      const output = this.#free.pop();
      if (output !== undefined) return output;
      this.#consumePart();
    }
  }

  /** Takes back a buffer that is full. */
  add(output: Buffer): void {
    this.#full.push(output);
  }

  /** Consumes all that is full. */
  drain(): void {
    while (this.#full.length > 0) this.#consumePart();
  }

  /** The last job of the queue is done: `output` was taken and is not used any more. */
  recycle(output: Buffer): void {
    for (const each of [output, ...this.#free.splice(0)]) idle.give(each);
  }

  /** Consumes until another thread has done `step`, so that the next one begins at once. */
  async drainDuring<Step>(step: Promise<Step>): Promise<Step> {
    let isPending = true;
    const settled = (): void => {
      isPending = false;
    };
    step.then(settled, settled);
    while (isPending && this.#full.length > 0) {
      this.#consumePart();
      await new Promise(setImmediate);
    }
    return await step;
  }

  #consumePart(): void {
    const output = this.#full[0] as Buffer;
    const part = output.subarray(this.#consumedBytes, this.#consumedBytes + PART_BYTES);
    this.#consume(part);
    this.#consumedBytes += part.length;
    if (this.#consumedBytes < output.length) return;
    this.#consumedBytes = 0;
    this.#full.shift();
    this.#free.push(output);
  }
}
