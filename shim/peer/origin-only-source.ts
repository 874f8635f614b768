import { ErrorCode, isShoalError, ShoalError } from '../base/errors.ts';
import type { CachedBlob } from '../cache/cached-blob.ts';
import { ChunkState } from '../cache/cached-blob.ts';
import type { ChunkRun } from '../swarm/messages.ts';
import { PullWait } from '../swarm/swarm-node.ts';
import type { BlobFetch } from './blob-fetch.ts';
import type { ChunkSource } from './fetch-host.ts';
import { isOriginFatal, type OriginReads } from './origin-reads.ts';

/** Chunks of one read (32 MiB): long enough that the request costs nothing, short enough to run several. */
const RUN_CHUNKS = 16;
/** Reads of one blob at once. */
const READS_PER_BLOB = 2;
/** Failures in a row, without a byte in between, after which the origin's error is the answer. */
const FAILURES_MAX = 4;
const BACK_OFF_MIN_MS = 250;
const BACK_OFF_MAX_MS = 4_000;
/** A registry that asks for a longer wait than this is an error now. */
const RETRY_AFTER_MAX_MS = 20_000;

/** The chunk source of a node without peers: reads what is missing from the origin, in order. */
export class OriginOnlySource implements ChunkSource {
  readonly #reads: OriginReads;
  readonly #running = new Map<BlobFetch, Promise<unknown>>();

  constructor(reads: OriginReads) {
    this.#reads = reads;
  }

  start(fetch: BlobFetch): void {
    const runs = missingRuns(fetch);
    const workers = Array.from({ length: READS_PER_BLOB }, () => this.#work(fetch, runs));
    this.#running.set(
      fetch,
      Promise.all(workers).catch((error) => fetch.fail(error)),
    );
  }

  async stop(fetch: BlobFetch): Promise<void> {
    await this.#running.get(fetch);
    this.#running.delete(fetch);
  }

  consumerMoved(): void {}

  confirmed(_blob: CachedBlob): void {}

  waitOf(): PullWait {
    return PullWait.None;
  }

  distrusted(): void {}

  async #work(fetch: BlobFetch, runs: ChunkRun[]): Promise<void> {
    for (let run = runs.shift(); run !== undefined; run = runs.shift()) await this.#fill(fetch, run);
  }

  async #fill(fetch: BlobFetch, run: ChunkRun): Promise<void> {
    let rest = run;
    for (let failures = 0; !fetch.signal.aborted; ) {
      let stored = 0;
      try {
        await this.#reads.read(fetch, rest, fetch.signal, (chunk) => {
          stored += 1;
          fetch.chunkStored(chunk, 'origin');
        });
        return;
      } catch (error) {
        if (fetch.signal.aborted) return;
        failures = stored > 0 ? 1 : failures + 1;
        const delayMs = retryDelayMs(error, failures);
        if (delayMs === undefined) throw error;
        await sleep(delayMs, fetch.signal);
        rest = { firstChunk: rest.firstChunk + stored, chunkCount: rest.chunkCount - stored };
      }
    }
  }
}

function retryDelayMs(error: unknown, failures: number): number | undefined {
  if (isOriginFatal(error) || isShoalError(error, ErrorCode.CacheUnavailable) || failures >= FAILURES_MAX)
    return undefined;
  const askedMs = error instanceof ShoalError ? (error.retryAfterMs ?? 0) : 0;
  if (askedMs > RETRY_AFTER_MAX_MS) return undefined;
  return Math.max(askedMs, Math.min(BACK_OFF_MAX_MS, BACK_OFF_MIN_MS * 2 ** (failures - 1)));
}

function missingRuns(fetch: BlobFetch): ChunkRun[] {
  const { blob } = fetch;
  const runs: ChunkRun[] = [];
  for (let chunk = 0; chunk < blob.chunkCount; chunk++) {
    if (blob.stateOf(chunk) === ChunkState.Verified) continue;
    const last = runs.at(-1);
    if (last !== undefined && last.firstChunk + last.chunkCount === chunk && last.chunkCount < RUN_CHUNKS)
      runs[runs.length - 1] = { firstChunk: last.firstChunk, chunkCount: last.chunkCount + 1 };
    else runs.push({ firstChunk: chunk, chunkCount: 1 });
  }
  return runs;
}

function sleep(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, delayMs);
    signal.addEventListener('abort', done, { once: true });
  });
}
