import { cancelled, ErrorCode, isShoalError, ShoalError } from '../base/errors.ts';
import { ChunkState } from '../cache/cached-blob.ts';
import type { ChunkRun } from '../swarm/messages.ts';
import type { BlobFetch } from './blob-fetch.ts';
import { readOriginRun } from './origin-run.ts';
import type { RateGate } from './rate-gate.ts';
import type { TransferCounters } from './transfer-counters.ts';
import type { TransferLimits } from './transfer-limits.ts';
import type { TransferObserver } from './transfer-observer.ts';
import type { TransferView } from './transfer-view.ts';
import { Turnstile } from './turnstile.ts';

export interface OriginReadsOptions {
  readonly limits: TransferLimits;
  readonly counters: TransferCounters;
  readonly rate: RateGate;
  /** Requests, one a read. */
  readonly requestRate: RateGate;
  readonly observer: TransferObserver | undefined;
}

/** All reads at origins: bounded in number and rate, each with the credentials of a pull that is still there. */
export class OriginReads {
  readonly #options: OriginReadsOptions;
  readonly #turns: Turnstile;

  constructor(options: OriginReadsOptions) {
    this.#options = options;
    this.#turns = new Turnstile(options.limits.originReadsMax);
  }

  /**
   * Reads the run; when the pull whose credentials are used goes away or is refused, another one's take over.
   * @throws the origin's error, Stalled, Cancelled, CacheUnavailable.
   */
  async read(
    fetch: BlobFetch,
    run: ChunkRun,
    signal: AbortSignal,
    onChunk: (chunk: number, hash: Uint8Array) => void,
  ): Promise<void> {
    const leave = await fetch.queue(this.#turns.enter(signal));
    try {
      const refused = new Set<TransferView>();
      let rest: ChunkRun | undefined = run;
      let lastError: unknown;
      while (rest !== undefined) {
        const view = fetch.pickReader(refused);
        if (view === undefined) throw lastError ?? cancelled(signal, 'read blob');
        try {
          await this.#readAs(view, fetch, rest, signal, onChunk);
          return;
        } catch (error) {
          if (!mayAnotherReader(error, view, signal)) throw this.#counted(error, signal);
          if (!view.releasedSignal.aborted) refused.add(view);
          lastError = error;
        }
        rest = firstMissingRun(fetch, run);
      }
    } finally {
      leave();
    }
  }

  async #readAs(
    view: TransferView,
    fetch: BlobFetch,
    run: ChunkRun,
    signal: AbortSignal,
    onChunk: (chunk: number, hash: Uint8Array) => void,
  ): Promise<void> {
    const { counters, limits, rate, requestRate, observer } = this.#options;
    const turn = requestRate.take(1);
    if (turn !== undefined) await fetch.holdBack(turn);
    counters.originReads += 1;
    await readOriginRun({
      blob: fetch.blob,
      run,
      readOrigin: view.readOrigin,
      stallMs: limits.originStallMs,
      signal: AbortSignal.any([signal, view.releasedSignal]),
      observer,
      onBytes: (count) => {
        counters.originBytes += count;
        fetch.noteBytes();
        return rate.take(count);
      },
      onChunk,
    });
  }

  #counted(error: unknown, signal: AbortSignal): unknown {
    if (!signal.aborted) this.#options.counters.originErrors += 1;
    return error;
  }
}

/** The first run of missing chunks inside `run`. */
export function firstMissingRun(fetch: BlobFetch, run: ChunkRun): ChunkRun | undefined {
  const { blob } = fetch;
  const end = Math.min(blob.chunkCount, run.firstChunk + run.chunkCount);
  let firstChunk = run.firstChunk;
  while (firstChunk < end && blob.stateOf(firstChunk) === ChunkState.Verified) firstChunk += 1;
  if (firstChunk === end) return undefined;
  let chunkCount = 1;
  while (firstChunk + chunkCount < end && blob.stateOf(firstChunk + chunkCount) !== ChunkState.Verified)
    chunkCount += 1;
  return { firstChunk, chunkCount };
}

/** Whether `error` says that this caller may not, or will not, read any more, rather than that nobody can. */
function mayAnotherReader(error: unknown, view: TransferView, signal: AbortSignal): boolean {
  if (signal.aborted) return false;
  if (view.releasedSignal.aborted) return true;
  return isShoalError(
    error,
    ErrorCode.Unauthorized,
    ErrorCode.Forbidden,
    ErrorCode.NotFound,
    ErrorCode.Cancelled,
  );
}

/** Whether asking the same origin again, as the same caller, can help. */
export function isOriginFatal(error: unknown): boolean {
  if (isShoalError(error, ErrorCode.Unauthorized, ErrorCode.Forbidden, ErrorCode.NotFound)) return true;
  return !(error instanceof ShoalError);
}
