import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { assert, InvariantError } from '../base/assert.ts';
import { cancelled, ErrorCode, ShoalError } from '../base/errors.ts';
import { JobControl } from './control.ts';
import type { ZstdBackend } from './inflate.ts';
import type { UnpackJob, UnpackPool, UnpackResult, UnpackRun } from './unpack-pool.ts';
import type { WorkerAnswer, WorkerRequest } from './worker.ts';

interface UnpackPoolOptions {
  /** Layers unpacked at once, 1–16. Default: two a core (one waits for the disk while one computes), 2–8. */
  readonly workersMax?: number;
  /** A worker without a job ends after this, ms. Default 10 s. */
  readonly idleMs?: number;
  /** Which zstd library; default zstd-napi where it was built. */
  readonly zstd?: ZstdBackend;
}

const WORKERS_MAX = 8;
const IDLE_MS = 10_000;
/** What a worker may use for JavaScript objects, MiB; its buffers are outside and fixed. */
const RESOURCE_LIMITS = { maxOldGenerationSizeMb: 192, maxYoungGenerationSizeMb: 8 };

export function createUnpackPool(options: UnpackPoolOptions = {}): UnpackPool {
  return new WorkerPool(options);
}

interface QueuedRun {
  readonly job: UnpackJob;
  readonly control: JobControl;
  readonly resolve: (result: UnpackResult) => void;
  readonly reject: (error: Error) => void;
  onRead: (readBytes: number) => void;
}

interface Slot {
  readonly worker: Worker;
  run: QueuedRun | undefined;
  idleTimer: NodeJS.Timeout | undefined;
}

class WorkerPool implements UnpackPool {
  readonly #workersMax: number;
  readonly #idleMs: number;
  readonly #zstd: ZstdBackend | undefined;
  readonly #queue: QueuedRun[] = [];
  readonly #slots = new Set<Slot>();
  #isClosed = false;

  constructor(options: UnpackPoolOptions) {
    const wanted = options.workersMax ?? Math.min(WORKERS_MAX, 2 * availableParallelism());
    this.#workersMax = Math.max(1, wanted);
    this.#idleMs = options.idleMs ?? IDLE_MS;
    this.#zstd = options.zstd;
  }

  prepare(jobs: number): void {
    if (this.#isClosed) return;
    const wanted = Math.min(jobs, availableParallelism(), this.#workersMax);
    while (this.#slots.size < wanted) this.#rest(this.#addSlot());
  }

  start(job: UnpackJob, signal: AbortSignal): UnpackRun {
    const control = new JobControl();
    const { promise, resolve, reject } = Promise.withResolvers<UnpackResult>();
    const run: QueuedRun = { job, control, resolve, reject, onRead: () => undefined };
    const abort = (): void => this.#cancel(run, cancelled(signal, `unpack layer "${job.digest}"`));
    signal.addEventListener('abort', abort, { once: true });
    this.#queue.push(run);
    if (this.#isClosed) this.#cancel(run, closedError());
    else if (signal.aborted) abort();
    this.#dispatch();
    const result = promise.finally(() => signal.removeEventListener('abort', abort));
    // A caller that has cancelled may not look at the result any more.
    result.catch(() => {});
    return {
      advance: (prefixBytes) => control.advance(prefixBytes),
      onRead: (listener) => {
        run.onRead = listener;
      },
      result,
    };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const run of [...this.#queue]) this.#cancel(run, closedError());
    for (const slot of this.#slots) slot.run?.control.cancel();
    await Promise.all([...this.#slots].map((slot) => this.#retire(slot)));
  }

  #cancel(run: QueuedRun, error: ShoalError): void {
    const at = this.#queue.indexOf(run);
    if (at >= 0) {
      this.#queue.splice(at, 1);
      run.reject(error);
    } else run.control.cancel();
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const slot = this.#freeSlot();
      if (slot === undefined) break;
      const run = this.#queue.shift();
      assert(run !== undefined, 'the queue is not empty');
      this.#give(slot, run);
    }
    this.#shareCores();
  }

  #freeSlot(): Slot | undefined {
    for (const slot of this.#slots) if (slot.run === undefined) return slot;
    return this.#slots.size < this.#workersMax ? this.#addSlot() : undefined;
  }

  #addSlot(): Slot {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { resourceLimits: RESOURCE_LIMITS });
    const slot: Slot = { worker, run: undefined, idleTimer: undefined };
    worker.on('message', (answer: WorkerAnswer) => this.#settle(slot, answer));
    worker.on('error', (error: unknown) => this.#lose(slot, error));
    worker.on('exit', () => this.#lose(slot, new Error('the worker ended')));
    this.#slots.add(slot);
    return slot;
  }

  #give(slot: Slot, run: QueuedRun): void {
    clearTimeout(slot.idleTimer);
    slot.run = run;
    slot.worker.ref();
    const request: WorkerRequest = { job: run.job, control: run.control.shared, zstd: this.#zstd };
    slot.worker.postMessage(request);
  }

  #settle(slot: Slot, answer: WorkerAnswer): void {
    const run = slot.run;
    assert(run !== undefined, 'only a worker with a job answers');
    if ('readBytes' in answer) {
      run.onRead(answer.readBytes);
      return;
    }
    slot.run = undefined;
    if ('result' in answer) run.resolve(answer.result);
    else if ('bug' in answer) run.reject(new InvariantError(answer.bug));
    else
      run.reject(
        new ShoalError(answer.failure.code, answer.failure.message, { facts: answer.failure.facts }),
      );
    this.#rest(slot);
    this.#dispatch();
  }

  #rest(slot: Slot): void {
    slot.worker.unref();
    slot.idleTimer = setTimeout(() => void this.#retire(slot), this.#idleMs).unref();
  }

  /** A worker died: out of memory, most likely, because of what the layer made it keep. */
  #lose(slot: Slot, error: unknown): void {
    clearTimeout(slot.idleTimer);
    if (!this.#slots.delete(slot)) return;
    slot.run?.reject(
      new ShoalError(
        ErrorCode.UnpackFailed,
        `Cannot unpack layer "${slot.run.job.digest}": its worker died`,
        {
          cause: error,
        },
      ),
    );
    this.#dispatch();
  }

  async #retire(slot: Slot): Promise<void> {
    clearTimeout(slot.idleTimer);
    this.#slots.delete(slot);
    await slot.worker.terminate();
    slot.run?.reject(closedError());
  }

  /** Cores without a layer of their own inflate for the others. */
  #shareCores(): void {
    const running = [...this.#slots].filter((slot) => slot.run !== undefined);
    const isSpare = running.length < availableParallelism();
    for (const slot of running) slot.run?.control.setSpareCore(isSpare);
  }
}

function closedError(): ShoalError {
  return new ShoalError(ErrorCode.Cancelled, 'Cannot unpack layer: the pool is closed');
}
