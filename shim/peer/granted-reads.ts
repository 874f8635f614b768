import { type BlobKey, blobKeyId } from '../base/blob-key.ts';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import type { ChunkHash, ChunkRun } from '../swarm/messages.ts';
import type { OriginOutcome } from '../swarm/swarm-node.ts';
import type { BlobFetch } from './blob-fetch.ts';
import { isOriginFatal, type OriginReads } from './origin-reads.ts';

/** Reads at the origin that the core asked for, by blob and run. */
export class GrantedReads {
  readonly #reads: OriginReads;
  readonly #onChunk: (key: BlobKey, chunk: number, hash: ChunkHash) => void;
  readonly #running = new Map<string, AbortController>();

  constructor(reads: OriginReads, onChunk: (key: BlobKey, chunk: number, hash: ChunkHash) => void) {
    this.#reads = reads;
    this.#onChunk = onChunk;
  }

  /** Never rejects: what goes wrong is the core's to answer, or the end of the fetch. */
  async read(fetch: BlobFetch, run: ChunkRun): Promise<OriginOutcome> {
    const id = runId(fetch.key, run);
    const abort = new AbortController();
    this.#running.set(id, abort);
    try {
      const both = AbortSignal.any([fetch.signal, abort.signal]);
      await this.#reads.read(fetch, run, both, (chunk, hash) => {
        fetch.chunkStored(chunk, 'origin');
        this.#onChunk(fetch.key, chunk, hash);
      });
      return { ok: true };
    } catch (error) {
      return outcomeOf(fetch, abort.signal, error);
    } finally {
      if (this.#running.get(id) === abort) this.#running.delete(id);
    }
  }

  cancel(key: BlobKey, run: ChunkRun): void {
    this.#running.get(runId(key, run))?.abort();
  }

  close(): void {
    for (const abort of this.#running.values()) abort.abort();
  }
}

function outcomeOf(fetch: BlobFetch, signal: AbortSignal, error: unknown): OriginOutcome {
  if (fetch.signal.aborted || signal.aborted) return { ok: false, fatal: false, code: ErrorCode.Cancelled };
  if (!(error instanceof ShoalError) || error.code === ErrorCode.CacheUnavailable) {
    fetch.fail(error);
    return { ok: false, fatal: true, code: ErrorCode.CacheUnavailable };
  }
  fetch.noteOriginError(error);
  const fatal = isOriginFatal(error);
  const retryAfterMs = error.retryAfterMs;
  return { ok: false, fatal, code: error.code, ...(retryAfterMs !== undefined && { retryAfterMs }) };
}

function runId(key: BlobKey, run: ChunkRun): string {
  return `${blobKeyId(key)}#${run.firstChunk}+${run.chunkCount}`;
}
