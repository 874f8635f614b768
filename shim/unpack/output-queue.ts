import { IdleBuffers } from './idle-buffers.ts';

/** One piece of inflated tar, bytes: large enough that waking the other thread is little beside the work. */
const OUTPUT_BYTES = 2 * 1024 * 1024;
/** One is inflated into, one is consumed, and one evens out steps that take longer than others. */
const OUTPUTS = 3;
/** Consumed between two looks at the pool, bytes: hashed and written while it is in the processor's cache. */
const PART_BYTES = 128 * 1024;
/** Where one thread does all the work, bytes: what it inflates is still in its cache when it is consumed. */
const ALONE_BYTES = 1024 * 1024;

const idle = new IdleBuffers(OUTPUT_BYTES, OUTPUTS);

/** Buffers between inflating and what hashes and writes: what is in them is consumed in its order, part by part. */
export class OutputQueue {
  readonly #consume: (part: Buffer) => void;
  readonly #free = Array.from({ length: OUTPUTS }, (): Buffer => idle.take());
  readonly #full: Buffer[] = [];
  /** Of the first full one. */
  #consumedBytes = 0;
  #output = this.#free.pop() as Buffer;
  #filledBytes = 0;

  /** What `consume` throws, the method throws that called it; the queue is of no use then. */
  constructor(consume: (part: Buffer) => void) {
    this.#consume = consume;
  }

  /** Where to inflate to while another thread may consume what is full. */
  get room(): Buffer {
    return this.#output.subarray(this.#filledBytes);
  }

  /** Consumes all there is, and gives a little room, which is consumed again before there is more. */
  roomAlone(): Buffer {
    this.drain();
    return this.#output.subarray(0, ALONE_BYTES);
  }

  /** So many bytes were put into the room that was given last. Consumes until there is room again. */
  add(bytes: number): void {
    this.#filledBytes += bytes;
    if (this.#filledBytes < this.#output.length) return;
    this.#full.push(this.#output);
    this.#filledBytes = 0;
    let output = this.#free.pop();
    for (; output === undefined; output = this.#free.pop()) this.#consumePart();
    this.#output = output;
  }

  /** Consumes all there is. */
  drain(): void {
    while (this.#full.length > 0) this.#consumePart();
    const filled = this.#output.subarray(0, this.#filledBytes);
    this.#filledBytes = 0;
    for (let at = 0; at < filled.length; at += PART_BYTES)
      this.#consume(filled.subarray(at, at + PART_BYTES));
  }

  /** Consumes what is full until another thread has done `step`, so that the next one begins at once. */
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

  /** Leaves the buffers to the thread's next queue: nobody puts anything into them any more. */
  recycle(): void {
    for (const each of [this.#output, ...this.#free.splice(0)]) idle.give(each);
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
