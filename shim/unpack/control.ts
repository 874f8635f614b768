/**
 * What the main thread tells a running job, through shared memory: how much of the file may be read, whether to stop,
 * and whether a core is free for inflating beside. A message would not reach a worker that is inside a long loop.
 */
const CONTROL_BYTES = 24;
const SEQUENCE = 0;
const CANCELLED = 1;
const SPARE_CORE = 2;
/** Index of the 64-bit prefix, behind four 32-bit words. */
const PREFIX = 2;

/** A worker that waits looks up this often even if nobody wakes it, ms. */
const WAIT_MS = 500;
/** A job tells how much it has read in steps of this: a chunk of the peer network. */
const READ_STEP_BYTES = 2 * 1024 * 1024;

export class JobControl {
  readonly shared: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #longs: BigInt64Array;

  readonly #onRead: (readBytes: number) => void;
  #toldBytes = 0;

  /** `onRead` is called on the worker's side. */
  constructor(
    shared: SharedArrayBuffer = new SharedArrayBuffer(CONTROL_BYTES),
    onRead: (readBytes: number) => void = () => undefined,
  ) {
    this.shared = shared;
    this.#onRead = onRead;
    this.#words = new Int32Array(shared);
    this.#longs = new BigInt64Array(shared);
  }

  advance(prefixBytes: number): void {
    if (prefixBytes <= this.prefixBytes) return;
    Atomics.store(this.#longs, PREFIX, BigInt(prefixBytes));
    this.#wake();
  }

  /** The job has read so much of its file, which may be all. */
  noteRead(readBytes: number, isAll: boolean): void {
    if (!isAll && readBytes - this.#toldBytes < READ_STEP_BYTES) return;
    this.#toldBytes = readBytes;
    this.#onRead(readBytes);
  }

  cancel(): void {
    Atomics.store(this.#words, CANCELLED, 1);
    this.#wake();
  }

  setSpareCore(isSpare: boolean): void {
    Atomics.store(this.#words, SPARE_CORE, isSpare ? 1 : 0);
  }

  get prefixBytes(): number {
    return Number(Atomics.load(this.#longs, PREFIX));
  }

  get isCancelled(): boolean {
    return Atomics.load(this.#words, CANCELLED) === 1;
  }

  get hasSpareCore(): boolean {
    return Atomics.load(this.#words, SPARE_CORE) === 1;
  }

  /** Blocks this thread until more than `knownBytes` may be read or the job is cancelled. */
  waitBeyond(knownBytes: number): void {
    for (;;) {
      const sequence = Atomics.load(this.#words, SEQUENCE);
      if (this.prefixBytes > knownBytes || this.isCancelled) return;
      Atomics.wait(this.#words, SEQUENCE, sequence, WAIT_MS);
    }
  }

  #wake(): void {
    Atomics.add(this.#words, SEQUENCE, 1);
    Atomics.notify(this.#words, SEQUENCE);
  }
}
