import type { BlobKey } from '../base/blob-key.ts';
import { ChunkState } from '../cache/cached-blob.ts';
import type { PeerId } from '../swarm/messages.ts';
import type { SwarmNode } from '../swarm/swarm-node.ts';
import { type ArrivalOutcome, ArrivingChunk } from './arriving-chunk.ts';
import type { BlobFetch } from './blob-fetch.ts';
import { protocolError } from './byte-codec.ts';
import type { ChunkBufferPool } from './chunk-buffer-pool.ts';
import type { ChunkTarget } from './frame-reader.ts';
import type { TransferCounters } from './transfer-counters.ts';
import { elapsedUs, FAILED_SIZE, type TransferObserver } from './transfer-observer.ts';

export interface ChunkIntakeOptions {
  readonly node: SwarmNode;
  readonly pool: ChunkBufferPool;
  readonly counters: TransferCounters;
  readonly observer: TransferObserver | undefined;
  readonly fetchOf: (key: BlobKey) => BlobFetch | undefined;
  /** What the end of the fetch waits for. */
  readonly workOf: (fetch: BlobFetch) => Set<Promise<void>> | undefined;
  /** Gives the core one input. */
  readonly input: (give: (nowMs: number) => void) => void;
}

interface AskedChunk {
  readonly key: BlobKey;
  readonly chunk: number;
  readonly requestId: number;
  readonly peer: PeerId;
  readonly sentMs: number;
}

/** Chunks on their way in from peers: from the first byte of a frame to the cache file. */
export class ChunkIntake {
  readonly #options: ChunkIntakeOptions;

  constructor(options: ChunkIntakeOptions) {
    this.#options = options;
  }

  /** A chunk frame begins: is it one that was asked for, and where do its bytes go? */
  expect(peer: PeerId, requestId: number, chunk: number, lengthBytes: number): ChunkTarget | undefined {
    const { node, pool, counters, fetchOf, workOf, input } = this.#options;
    const expected = node.expectedRequest(peer, requestId);
    const fetch = expected && fetchOf(expected.key);
    const hash = expected && node.expectedHash(expected.key, expected.chunk);
    if (expected === undefined || fetch === undefined || hash === undefined || fetch.signal.aborted) {
      counters.peerWastedBytes += lengthBytes;
      return undefined;
    }
    if (expected.chunk !== chunk || fetch.blob.chunkBytes(chunk) !== lengthBytes)
      throw protocolError('it sends another chunk than it was asked for');
    input((nowMs) => node.handleChunkBegun(peer, requestId, nowMs));
    const whole = pool.take();
    const request = { key: expected.key, chunk, requestId, peer, sentMs: expected.sentMs };
    return new ArrivingChunk(whole.subarray(0, lengthBytes), hash, (arrival, outcome) => {
      const work = workOf(fetch);
      const stored = this.#onArrival(fetch, request, arrival, hash, outcome).finally(() => {
        pool.give(whole);
        work?.delete(stored);
      });
      work?.add(stored);
    });
  }

  async #onArrival(
    fetch: BlobFetch,
    request: AskedChunk,
    arrival: ArrivingChunk,
    hash: Uint8Array,
    outcome: ArrivalOutcome,
  ): Promise<void> {
    const { node, counters, input } = this.#options;
    const sizeBytes = outcome === 'right' ? arrival.buffer.length : FAILED_SIZE;
    this.#observe('peerRead', fetch, request.chunk, sizeBytes, request.sentMs);
    const stored = outcome === 'right' && (await this.#store(fetch, request.chunk, arrival.buffer, hash));
    if (outcome === 'wrong') counters.peerBadChunks += 1;
    if (!stored) counters.peerWastedBytes += arrival.buffer.length;
    const elapsedMs = performance.now() - arrival.startedMs;
    const result = stored ? 'stored' : outcome === 'wrong' ? 'wrongHash' : 'failed';
    input((nowMs) => node.handleChunk({ ...request, outcome: result, elapsedMs }, nowMs));
  }

  async #store(fetch: BlobFetch, chunk: number, bytes: Buffer, hash: Uint8Array): Promise<boolean> {
    if (fetch.signal.aborted) return false;
    const { blob } = fetch;
    // The other copy of a chunk that was asked of two peers.
    if (blob.stateOf(chunk) === ChunkState.Verified) return true;
    const startedMs = performance.now();
    try {
      await blob.write(chunk * blob.chunkSizeBytes, [bytes]);
      const isNew = blob.stateOf(chunk) !== ChunkState.Verified;
      this.#record(fetch, blob.claim(chunk, hash));
      if (isNew) this.#observe('cacheWrite', fetch, chunk, bytes.length, startedMs);
    } catch (error) {
      this.#observe('cacheWrite', fetch, chunk, FAILED_SIZE, startedMs);
      fetch.fail(error);
      return false;
    }
    this.#options.counters.peerBytes += bytes.length;
    this.#options.counters.peerChunks += 1;
    if (!fetch.signal.aborted) fetch.chunkStored(chunk, 'peer');
    return true;
  }

  /** Nobody waits for the record but the end of the fetch: the chunk counts already, and the next one can be asked for. */
  #record(fetch: BlobFetch, recording: Promise<void>): void {
    const work = this.#options.workOf(fetch);
    const recorded = recording
      .catch((error: unknown) => fetch.fail(error))
      .finally(() => work?.delete(recorded));
    work?.add(recorded);
  }

  #observe(
    operation: 'peerRead' | 'cacheWrite',
    fetch: BlobFetch,
    chunk: number,
    sizeBytes: number,
    startedMs: number,
  ): void {
    this.#options.observer?.observe({
      operation,
      key: fetch.key,
      offsetBytes: chunk * fetch.blob.chunkSizeBytes,
      sizeBytes,
      latencyUs: elapsedUs(startedMs),
    });
  }
}
