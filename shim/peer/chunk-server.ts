import type { BlobKey } from '../base/blob-key.ts';
import { ErrorCode, isShoalError } from '../base/errors.ts';
import type { DiskCache } from '../cache/disk-cache.ts';
import type { Action, PeerId } from '../swarm/messages.ts';
import type { ChunkBufferPool } from './chunk-buffer-pool.ts';
import { CHUNK_HEAD_BYTES, CHUNK_ROOM_BYTES, FRAME_HEAD_BYTES, frameChunk } from './frame.ts';
import { unavailable } from './peer-connection.ts';
import type { PeerLinks } from './peer-links.ts';
import type { RateGate } from './rate-gate.ts';
import type { TransferCounters } from './transfer-counters.ts';
import { elapsedUs, FAILED_SIZE, type TransferObserver } from './transfer-observer.ts';

type ServeAction = Extract<Action, { kind: 'serve' }>;

export interface ChunkServerOptions {
  readonly cache: DiskCache;
  readonly links: PeerLinks;
  readonly pool: ChunkBufferPool;
  readonly upload: RateGate;
  readonly counters: TransferCounters;
  readonly observer: TransferObserver | undefined;
}

/** Sends chunks to peers, as many at once as the core has upload slots. */
export class ChunkServer {
  readonly #options: ChunkServerOptions;
  readonly #serving = new Map<string, { cancelled: boolean }>();

  constructor(options: ChunkServerOptions) {
    this.#options = options;
  }

  /** Resolves when the upload slot is free again, whatever became of the chunk. Never rejects. */
  async serve(action: ServeAction): Promise<void> {
    const { pool, counters, links } = this.#options;
    const id = serveId(action.peer, action.requestId);
    const state = { cancelled: false };
    this.#serving.set(id, state);
    const buffer = pool.take();
    const startedMs = performance.now();
    try {
      const length = await this.#read(action, buffer);
      await this.#options.upload.take(length);
      if (!state.cancelled)
        await this.#send(action, frameChunk(buffer, action.requestId, action.chunk, length), startedMs);
    } catch (error) {
      counters.serveErrors += 1;
      this.#observe('chunkServed', action, FAILED_SIZE, startedMs);
      links.send(action.peer, { kind: 'gone', requestId: action.requestId });
      await this.#forgetIfLost(action.key, error);
    } finally {
      pool.give(buffer);
      this.#serving.delete(id);
    }
  }

  /** The peer wants it no longer: it is not sent, unless that has begun. */
  cancel(peer: PeerId, requestId: number): void {
    const serving = this.#serving.get(serveId(peer, requestId));
    if (serving !== undefined) serving.cancelled = true;
  }

  async #read(action: ServeAction, buffer: Buffer): Promise<number> {
    const blob = this.#options.cache.get(action.key);
    if (blob === undefined) throw unavailable('the blob is not here');
    const startedMs = performance.now();
    let length = FAILED_SIZE;
    try {
      length = await blob.readChunk(action.chunk, buffer.subarray(CHUNK_ROOM_BYTES));
    } finally {
      this.#observe('cacheRead', action, length, startedMs);
    }
    this.#options.cache.noteServed(blob);
    return length;
  }

  async #send(action: ServeAction, frame: Buffer, startedMs: number): Promise<void> {
    const { counters, links } = this.#options;
    const sizeBytes = frame.length - FRAME_HEAD_BYTES - CHUNK_HEAD_BYTES;
    const isSent = await links.sendChunk(action.peer, frame);
    this.#observe('chunkServed', action, isSent ? sizeBytes : FAILED_SIZE, startedMs);
    if (!isSent) return;
    counters.servedBytes += sizeBytes;
    counters.servedChunks += 1;
  }

  #observe(
    operation: 'chunkServed' | 'cacheRead',
    { key, chunk }: ServeAction,
    sizeBytes: number,
    startedMs: number,
  ): void {
    this.#options.observer?.observe({
      operation,
      key,
      offsetBytes: chunk * this.#options.cache.chunkSizeBytes,
      sizeBytes,
      latencyUs: elapsedUs(startedMs),
    });
  }

  /** A blob that only serves and has lost a chunk is of no use: what is wrong with the file is not known. */
  async #forgetIfLost(key: BlobKey, error: unknown): Promise<void> {
    const { cache } = this.#options;
    const blob = cache.get(key);
    if (blob !== undefined && blob.pins === 0 && isShoalError(error, ErrorCode.CacheCorrupt))
      await cache.drop(blob);
  }
}

function serveId(peer: PeerId, requestId: number): string {
  return `${peer}#${requestId}`;
}
