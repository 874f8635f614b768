import { createHash, type Hash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { InvariantError } from '../base/assert.ts';
import { cancelled, ErrorCode, ShoalError } from '../base/errors.ts';
import { type CachedBlob, ChunkState } from '../cache/cached-blob.ts';
import type { ChunkRun } from '../swarm/messages.ts';
import type { ReadOrigin } from './transfer.ts';
import { elapsedUs, FAILED_SIZE, type TransferObserver } from './transfer-observer.ts';

/** Pieces of the stream are written together: one system call a MiB instead of one every 64 KiB. */
const WRITE_BATCH_BYTES = 1024 * 1024;
/** Written but not yet on disk, a run. Bounds memory when the disk is slower than the origin. */
const WRITE_IN_FLIGHT_BYTES_MAX = 4 * 1024 * 1024;

export interface OriginRunOptions {
  readonly blob: CachedBlob;
  readonly run: ChunkRun;
  readonly readOrigin: ReadOrigin;
  readonly stallMs: number;
  readonly signal: AbortSignal;
  readonly observer: TransferObserver | undefined;
  /** Called with every piece that arrives, before the next one is read; waits for the origin limit. */
  readonly onBytes: (count: number) => Promise<void> | undefined;
  /** Called in order when a chunk is in the file. */
  readonly onChunk: (chunk: number, hash: Uint8Array) => void;
}

/**
 * Reads a run of chunks at the origin into the cache file, hashing on the way.
 * @throws the origin's error, Stalled, Cancelled, CacheUnavailable. Chunks that were reported are held all the same.
 */
export async function readOriginRun(options: OriginRunOptions): Promise<void> {
  const { blob, run } = options;
  const offsetBytes = run.firstChunk * blob.chunkSizeBytes;
  const endBytes = Math.min(blob.sizeBytes, offsetBytes + run.chunkCount * blob.chunkSizeBytes);
  const watch = new StallWatch(options.stallMs, options.signal);
  const sink = new ChunkSink(options, offsetBytes);
  try {
    const range = { offsetBytes, lengthBytes: endBytes - offsetBytes };
    const stream = await options.readOrigin(range, watch.signal);
    await pump(stream, sink, watch, options);
    await sink.end(endBytes);
  } catch (error) {
    await sink.settle();
    if (!options.signal.aborted) sink.noteFailed();
    throw watch.reason ?? originError(error);
  } finally {
    watch.stop();
  }
}

async function pump(
  stream: Readable,
  sink: ChunkSink,
  watch: StallWatch,
  options: OriginRunOptions,
): Promise<void> {
  const onAbort = () => stream.destroy(watch.reason);
  watch.signal.addEventListener('abort', onAbort, { once: true });
  if (watch.signal.aborted) onAbort();
  try {
    for await (const piece of stream as AsyncIterable<Buffer>) {
      watch.pause();
      const wait = options.onBytes(piece.length);
      if (wait !== undefined) await wait;
      const full = sink.push(piece);
      if (full !== undefined) await full;
      watch.resume();
    }
  } finally {
    watch.signal.removeEventListener('abort', onAbort);
    stream.destroy();
  }
}

/** Cuts the stream into chunks, hashes them, and writes them in batches. */
class ChunkSink {
  readonly #options: OriginRunOptions;
  readonly #blob: CachedBlob;
  readonly #endBytes: number;
  #chunk: number;
  #chunkLeft: number;
  /** When the chunk that comes now was asked for, or the one before it ended. */
  #chunkStartedMs = performance.now();
  #hash: Hash = createHash('sha256');
  #offset: number;
  #batch: Buffer[] = [];
  #batchBytes = 0;
  /** Writes in the order of their offsets; each waits for the ones before it. */
  #tail: Promise<void> = Promise.resolve();
  #inFlightBytes = 0;
  #failure: unknown;

  constructor(options: OriginRunOptions, offsetBytes: number) {
    this.#options = options;
    this.#blob = options.blob;
    this.#offset = offsetBytes;
    this.#chunk = options.run.firstChunk;
    this.#chunkLeft = options.blob.chunkBytes(this.#chunk);
    this.#endBytes = Math.min(
      options.blob.sizeBytes,
      offsetBytes + options.run.chunkCount * options.blob.chunkSizeBytes,
    );
  }

  /** Takes the next bytes; gives a promise when the caller should wait before it brings more. */
  push(piece: Buffer): Promise<void> | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#offset + this.#batchBytes + piece.length > this.#endBytes) throw wrongLength('more');
    let rest = piece;
    while (rest.length > 0) {
      const part = rest.length <= this.#chunkLeft ? rest : rest.subarray(0, this.#chunkLeft);
      rest = rest.subarray(part.length);
      this.#take(part);
    }
    return this.#inFlightBytes > WRITE_IN_FLIGHT_BYTES_MAX ? this.#tail : undefined;
  }

  async end(endBytes: number): Promise<void> {
    await this.settle();
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#offset !== endBytes) throw wrongLength('fewer');
  }

  /** Waits for the writes that have begun; never rejects. */
  async settle(): Promise<void> {
    await this.#tail;
  }

  /** The origin did not give the chunk that was awaited. */
  noteFailed(): void {
    if (this.#failure === undefined && this.#offset < this.#endBytes)
      this.#observe('originRead', this.#chunk, FAILED_SIZE, this.#chunkStartedMs);
  }

  #take(part: Buffer): void {
    this.#hash.update(part);
    this.#batch.push(part);
    this.#batchBytes += part.length;
    this.#chunkLeft -= part.length;
    if (this.#chunkLeft === 0) this.#endChunk();
    else if (this.#batchBytes >= WRITE_BATCH_BYTES) this.#flush();
  }

  #endChunk(): void {
    const chunk = this.#chunk;
    const hash = this.#hash.digest();
    const writtenMs = performance.now();
    const sizeBytes = this.#blob.chunkBytes(chunk);
    this.#observe('originRead', chunk, sizeBytes, this.#chunkStartedMs);
    this.#flush(async () => {
      const isNew = this.#blob.stateOf(chunk) !== ChunkState.Verified;
      const recorded = this.#blob.claim(chunk, hash);
      if (isNew) this.#observe('cacheWrite', chunk, sizeBytes, writtenMs);
      this.#options.onChunk(chunk, hash);
      await recorded;
    });
    this.#chunkStartedMs = writtenMs;
    this.#hash = createHash('sha256');
    this.#chunk += 1;
    this.#chunkLeft = this.#offset < this.#blob.sizeBytes ? this.#blob.chunkBytes(this.#chunk) : 0;
  }

  #flush(then?: () => Promise<void>): void {
    const batch = this.#batch;
    const bytes = this.#batchBytes;
    const offset = this.#offset;
    const flushedMs = performance.now();
    this.#batch = [];
    this.#batchBytes = 0;
    this.#offset += bytes;
    this.#inFlightBytes += bytes;
    const chunk = Math.floor(offset / this.#blob.chunkSizeBytes);
    this.#tail = this.#tail.then(async () => {
      try {
        if (this.#failure !== undefined) return;
        // A peer may have brought the chunk meanwhile: bytes that are verified are not written over.
        if (this.#blob.stateOf(chunk) !== ChunkState.Verified) await this.#blob.write(offset, batch);
        await then?.();
      } catch (error) {
        this.#failure = error;
        this.#observe('cacheWrite', chunk, FAILED_SIZE, flushedMs);
      } finally {
        this.#inFlightBytes -= bytes;
      }
    });
  }

  #observe(
    operation: 'originRead' | 'cacheWrite',
    chunk: number,
    sizeBytes: number,
    startedMs: number,
  ): void {
    this.#options.observer?.observe({
      operation,
      key: this.#blob.key,
      offsetBytes: chunk * this.#blob.chunkSizeBytes,
      sizeBytes,
      latencyUs: elapsedUs(startedMs),
    });
  }
}

/** A body that breaks off ends with an error of the HTTP client, not with one of ours. */
function originError(error: unknown): unknown {
  if (error instanceof ShoalError || error instanceof InvariantError) return error;
  return new ShoalError(
    ErrorCode.RegistryUnavailable,
    'Cannot read blob from its registry: the answer broke off',
    {
      cause: error,
      retriable: true,
    },
  );
}

function wrongLength(what: 'more' | 'fewer'): ShoalError {
  return new ShoalError(
    ErrorCode.RegistryProtocol,
    `Cannot read blob from its registry: ${what} bytes came than the range has`,
    { retriable: true },
  );
}

/** Aborts its signal when the caller does, or when it was not paused and nothing happened for `stallMs`. */
class StallWatch {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal;
  readonly #stallMs: number;
  readonly #onOuter = () => this.#abort(cancelled(this.#outer, 'read blob'));
  readonly #timer: NodeJS.Timeout;
  #reason: ShoalError | undefined;
  #paused = false;

  constructor(stallMs: number, outer: AbortSignal) {
    this.#outer = outer;
    this.#stallMs = stallMs;
    this.#timer = setTimeout(() => this.#onTimer(), stallMs);
    outer.addEventListener('abort', this.#onOuter, { once: true });
    if (outer.aborted) this.#onOuter();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get reason(): ShoalError | undefined {
    return this.#reason;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#timer.refresh();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#outer.removeEventListener('abort', this.#onOuter);
  }

  #onTimer(): void {
    if (this.#paused) this.#timer.refresh();
    else
      this.#abort(
        new ShoalError(
          ErrorCode.Stalled,
          `Cannot read blob from its registry: no byte came for ${this.#stallMs} ms`,
          {
            retriable: true,
          },
        ),
      );
  }

  #abort(reason: ShoalError): void {
    this.#reason ??= reason;
    this.#controller.abort(this.#reason);
  }
}
