import type { BlobKey } from '../base/blob-key.ts';
import type { SwarmLimits } from './limits.ts';
import type { ChunkRun } from './messages.ts';

export interface OriginRun {
  readonly key: BlobKey;
  readonly keyId: string;
  readonly run: ChunkRun;
  /** Chunks of it not yet read. */
  remaining: number;
}

/** An asked-for lease that did not come within this time is not counted on any longer, ms. */
const ASK_TIMEOUT_MS = 1_000;

/** This node's reads at the origin: how many are under way and how many more it may ask the directories for. */
export class OriginGate {
  readonly #limits: SwarmLimits;
  readonly #runs = new Set<OriginRun>();
  readonly #asked = new Map<string, { count: number; untilMs: number }>();

  constructor(limits: SwarmLimits) {
    this.#limits = limits;
  }

  /**
   * Places for further leases, of `placesMax`. A run at its last chunk no longer counts, so that the next one is there in time; but
   * nothing is asked for that could not start.
   */
  available(placesMax: number, nowMs: number): number {
    let count = placesMax;
    for (const run of this.#runs) if (run.remaining > 1) count--;
    let room = this.#room;
    for (const [keyId, asked] of this.#asked) {
      if (nowMs >= asked.untilMs) this.#asked.delete(keyId);
      else {
        count -= asked.count;
        room -= asked.count;
      }
    }
    return Math.max(0, Math.min(count, room));
  }

  /** Whether one more run may start at all. */
  get hasRoom(): boolean {
    return this.#room > 0;
  }

  /** Whether anything is being read, of any blob. */
  get isReading(): boolean {
    return this.#runs.size > 0;
  }

  /** Twice the usual number, for leases that come late. */
  get #room(): number {
    return this.#limits.leasesPerNode * 2 - this.#runs.size;
  }

  isAsking(keyId: string, nowMs: number): boolean {
    return nowMs < (this.#asked.get(keyId)?.untilMs ?? Number.NEGATIVE_INFINITY);
  }

  ask(keyId: string, count: number, nowMs: number): void {
    if (count === 0) this.#asked.delete(keyId);
    else this.#asked.set(keyId, { count, untilMs: nowMs + ASK_TIMEOUT_MS });
  }

  answered(keyId: string): void {
    this.#asked.delete(keyId);
  }

  start(key: BlobKey, keyId: string, run: ChunkRun): OriginRun {
    const started = { key, keyId, run, remaining: run.chunkCount };
    this.#runs.add(started);
    return started;
  }

  end(run: OriginRun): void {
    this.#runs.delete(run);
  }

  runsOf(keyId: string): OriginRun[] {
    return [...this.#runs].filter((run) => run.keyId === keyId);
  }

  find(keyId: string, chunk: number): OriginRun | undefined {
    for (const run of this.#runs) {
      if (run.keyId !== keyId) continue;
      if (chunk >= run.run.firstChunk && chunk < run.run.firstChunk + run.run.chunkCount) return run;
    }
    return undefined;
  }
}
