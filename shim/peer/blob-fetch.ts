import type { BlobKey } from '../base/blob-key.ts';
import { cancelled, ErrorCode, isShoalError, ShoalError } from '../base/errors.ts';
import { type CachedBlob, ChunkState } from '../cache/cached-blob.ts';
import { PullWait } from '../swarm/swarm-node.ts';
import type { FetchHost } from './fetch-host.ts';
import { idleSinceMs, verdictOnIdle } from './fetch-stall.ts';
import type { ReadOrigin, Transfer, TransferCounts } from './transfer.ts';
import { elapsedUs, FAILED_SIZE } from './transfer-observer.ts';
import { TransferView } from './transfer-view.ts';

/** Part of the stall limit after which it is asked whether the blob is held back. */
const HELD_BACK_LOOK = 0.25;

/** The fetch of one blob for all pulls that want it at the moment. */
export class BlobFetch {
  readonly key: BlobKey;
  readonly sizeBytes: number;
  /** Only the origin is believed: an earlier fetch of this blob had the wrong digest. */
  readonly originOnly: boolean;
  /** Resolves when nothing of this fetch touches the cache any more. */
  readonly stopped: Promise<void>;
  readonly #host: FetchHost;
  readonly #views = new Set<TransferView>();
  readonly #abort = new AbortController();
  readonly #filled = Promise.withResolvers<void>();
  #blob: CachedBlob | undefined;
  #prefixChunks = 0;
  #stored = new Uint8Array(0);
  #originBytes = 0;
  #peerBytes = 0;
  #cacheBytes = 0;
  #lastProgressMs = performance.now();
  #originError: ShoalError | undefined;
  #distrusted = false;
  /** Reads that wait until this node may ask the origin again. */
  #heldBack = 0;
  /** Reads that wait until one of another blob ends. */
  #queued = 0;

  constructor(
    host: FetchHost,
    key: BlobKey,
    sizeBytes: number,
    after: Promise<unknown>,
    originOnly: boolean,
  ) {
    this.#host = host;
    this.key = key;
    this.sizeBytes = sizeBytes;
    this.originOnly = originOnly;
    this.#filled.promise.catch(() => undefined);
    this.stopped = this.#run(after);
  }

  /** The file, pinned. Only while the fetch is running. */
  get blob(): CachedBlob {
    const blob = this.#blob;
    if (blob === undefined) throw cancelled(this.signal, 'use a cache file');
    return blob;
  }

  get path(): string {
    return this.#blob?.path ?? this.#host.cache.pathOf(this.key);
  }

  get isProven(): boolean {
    return this.#blob?.isProven ?? false;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get counts(): TransferCounts {
    return { originBytes: this.#originBytes, peerBytes: this.#peerBytes, cacheBytes: this.#cacheBytes };
  }

  join(readOrigin: ReadOrigin): TransferView {
    const view = new TransferView(this, readOrigin, this.#host.throttle);
    this.#views.add(view);
    this.#offer();
    return view;
  }

  leave(view: TransferView): void {
    this.#views.delete(view);
    this.consumerMoved();
    if (this.#views.size > 0) return;
    this.#host.retire(this);
    this.#abort.abort(
      new ShoalError(ErrorCode.Cancelled, `Cannot fetch "${this.key.digest}": no pull needs it`),
    );
  }

  /** A live pull whose credentials may read the origin; those in `except` were refused. */
  pickReader(except: ReadonlySet<TransferView>): TransferView | undefined {
    for (const view of this.#views) if (!except.has(view)) return view;
    return undefined;
  }

  /** Some bytes came in: the blob is not stalled, nor are those that wait for it. */
  noteBytes(): void {
    this.#lastProgressMs = performance.now();
    this.#host.lastBytesMs = this.#lastProgressMs;
  }

  /** Waits for leave to read; the blob is not stalled meanwhile. */
  async holdBack(wait: Promise<void>): Promise<void> {
    this.#heldBack += 1;
    try {
      await wait;
    } finally {
      this.#heldBack -= 1;
      this.#lastProgressMs = performance.now();
    }
  }

  /** Waits for reads of other blobs to end; the blob is not stalled as long as bytes of those come. */
  async queue<Turn>(wait: Promise<Turn>): Promise<Turn> {
    this.#queued += 1;
    try {
      return await wait;
    } finally {
      this.#queued -= 1;
    }
  }

  /** A chunk may come twice: of two peers, or of a peer while the origin is read. Only the first one counts. */
  chunkStored(chunk: number, from: 'origin' | 'peer'): void {
    if (this.#stored[chunk] === 1) return;
    this.#stored[chunk] = 1;
    const bytes = this.blob.chunkBytes(chunk);
    if (from === 'origin') this.#originBytes += bytes;
    else this.#peerBytes += bytes;
    this.#originError = undefined;
    this.noteBytes();
    this.#advance();
  }

  /** The origin failed; the fetch goes on as long as something else brings bytes. */
  noteOriginError(error: ShoalError): void {
    this.#originError = error;
  }

  fail(error: unknown): void {
    if (this.signal.aborted) return;
    this.#host.cache.noteFailure(error);
    this.#host.counters.blobsFailed += 1;
    this.#host.retire(this);
    for (const view of this.#views) view.fail(error);
    this.#abort.abort(error);
  }

  handedOut(bytes: number): void {
    this.#host.counters.localBytes += bytes;
    this.consumerMoved();
  }

  consumerMoved(): void {
    this.#host.source.consumerMoved(this);
  }

  /** The one that is ahead of all others: it must not wait for them, which may wait for it. */
  get consumer(): { readonly offsetBytes: number; readonly setsPace: boolean } {
    const consumers = [...this.#views].map((view) => view.consumer);
    return {
      offsetBytes: Math.max(0, ...consumers.map(({ offsetBytes }) => offsetBytes)),
      setsPace: consumers.length > 0 && consumers.every(({ setsPace }) => setsPace),
    };
  }

  get isHeldBack(): boolean {
    return this.#wait !== PullWait.None;
  }

  get #wait(): PullWait {
    if (this.#heldBack > 0) return PullWait.Leave;
    return this.#queued > 0 ? PullWait.Others : this.#host.source.waitOf(this);
  }

  async confirm(): Promise<void> {
    const blob = this.blob;
    await blob.confirm();
    if (!blob.dropped) this.#host.source.confirmed(blob);
  }

  distrust(view: TransferView): Transfer {
    this.#views.delete(view);
    if (!this.#distrusted) {
      this.#distrusted = true;
      this.#host.counters.blobsDistrusted += 1;
      this.#host.source.distrusted(this.key);
    }
    const again = this.#host.reopen(this, view.readOrigin);
    const error = new ShoalError(
      ErrorCode.CacheCorrupt,
      `Cannot fetch "${this.key.digest}": its digest was wrong`,
      {
        retriable: true,
      },
    );
    for (const other of this.#views) other.fail(error);
    this.#abort.abort(error);
    return again;
  }

  async #run(after: Promise<unknown>): Promise<void> {
    await after;
    let watch: NodeJS.Timeout | undefined;
    let leaveDownloads: (() => void) | undefined;
    try {
      await this.#takeUp();
      if (this.#prefixChunks < this.blob.chunkCount) {
        leaveDownloads = await this.#host.downloads.enter(this.signal);
        this.#lastProgressMs = performance.now();
        watch = setInterval(() => this.#checkStall(), 250);
        this.#host.source.start(this);
        await this.#untilFilled();
        leaveDownloads();
        clearInterval(watch);
      }
      await this.#finish();
    } catch (error) {
      this.fail(error);
    } finally {
      clearInterval(watch);
      await this.#host.source.stop(this);
      leaveDownloads?.();
      if (this.#blob !== undefined) await this.#host.cache.unpin(this.#blob).catch(() => undefined);
    }
  }

  /** Opens the file and checks the chunks that an earlier run left in it. */
  async #takeUp(): Promise<void> {
    if (this.signal.aborted) throw cancelled(this.signal, 'open a cache file');
    this.#blob = await this.#host.cache.pin(this.key, this.sizeBytes);
    await this.#verifyClaims();
    if (this.blob.frozen && !this.blob.complete) {
      // A file that must not be written to has lost chunks: a new one takes its place.
      await this.#host.cache.unpin(this.blob);
      this.#blob = await this.#host.cache.pin(this.key, this.sizeBytes);
      this.#prefixChunks = 0;
      this.#cacheBytes = 0;
    }
    this.#host.counters.cacheBytes += this.#cacheBytes;
    this.#stored = new Uint8Array(this.blob.chunkCount);
    this.#advance();
  }

  async #verifyClaims(): Promise<void> {
    const { blob } = this;
    let buffer: Buffer | undefined;
    for (let chunk = 0; chunk < blob.chunkCount; chunk++) {
      if (this.signal.aborted) throw cancelled(this.signal, 'check a cache file');
      const state = blob.stateOf(chunk);
      if (state === ChunkState.Missing) continue;
      if (state === ChunkState.Claimed) {
        buffer ??= Buffer.allocUnsafeSlow(blob.chunkSizeBytes);
        if (!(await this.#isIntact(chunk, buffer))) continue;
      }
      this.#cacheBytes += blob.chunkBytes(chunk);
      if (!blob.frozen) this.#advance();
    }
  }

  async #isIntact(chunk: number, buffer: Buffer): Promise<boolean> {
    const startedMs = performance.now();
    let sizeBytes = FAILED_SIZE;
    try {
      sizeBytes = await this.blob.readChunk(chunk, buffer);
      return true;
    } catch (error) {
      if (!isShoalError(error, ErrorCode.CacheCorrupt)) throw error;
      return false;
    } finally {
      this.#host.observer?.observe({
        operation: 'cacheRead',
        key: this.key,
        offsetBytes: chunk * this.blob.chunkSizeBytes,
        sizeBytes,
        latencyUs: elapsedUs(startedMs),
      });
    }
  }

  #untilFilled(): Promise<void> {
    const stop = () => this.#filled.reject(cancelled(this.signal, 'fetch a blob'));
    if (this.signal.aborted) stop();
    this.signal.addEventListener('abort', stop, { once: true });
    return this.#filled.promise;
  }

  /** Stays until the last consumer leaves: the file is protected and open that long. */
  async #finish(): Promise<void> {
    this.#offer();
    this.#host.counters.blobsFinished += 1;
    if (this.signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }

  #advance(): void {
    const { blob } = this;
    while (this.#prefixChunks < blob.chunkCount && blob.stateOf(this.#prefixChunks) === ChunkState.Verified)
      this.#prefixChunks += 1;
    this.#offer();
    if (this.#prefixChunks === blob.chunkCount) this.#filled.resolve();
  }

  #offer(): void {
    const blob = this.#blob;
    if (blob === undefined) return;
    const prefixBytes = Math.min(this.sizeBytes, this.#prefixChunks * blob.chunkSizeBytes);
    const allThere = this.#prefixChunks === blob.chunkCount;
    for (const view of this.#views) view.offer(prefixBytes, allThere);
  }

  #checkStall(): void {
    const { limits, connections, lastBytesMs } = this.#host;
    const nowMs = performance.now();
    const originError = this.#originError;
    if (nowMs - this.#lastProgressMs > limits.blobStallMs * HELD_BACK_LOOK) {
      const known = { wait: this.#wait, originError, progressMs: this.#lastProgressMs };
      this.#lastProgressMs = idleSinceMs({ ...known, othersMs: lastBytesMs, nowMs });
    }
    const error = verdictOnIdle({
      digest: this.key.digest,
      idleMs: nowMs - this.#lastProgressMs,
      originError,
      isAlone: connections === 0,
      blobStallMs: limits.blobStallMs,
    });
    if (error !== undefined) this.fail(error);
  }
}
