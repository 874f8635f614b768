import type { BlobKey } from '../base/blob-key.ts';
import { type BudgetAmount, grantBytesMax, type OriginLimits } from './budget-bucket.ts';
import { CHUNK_SIZE_BYTES } from './limits.ts';
import type { ChunkRun } from './messages.ts';
import type { OriginOutcome } from './origin-reader.ts';

/** Who wants runs of a blob read. */
export interface OriginReading {
  readonly key: BlobKey;
  readonly keyId: string;
  readonly sizeBytes: number;
  /** Whether the chunk is still to be read here: it may have come since, or be had from peers. */
  isToBeRead(chunk: number): boolean;
  /** The chunk was in a run, and is not read after all. */
  leaveOut(chunk: number): void;
  /** All of the run has ended, or a part of it failed. */
  handleEnd(run: ChunkRun, outcome: OriginOutcome, nowMs: number): void;
}

/** A run on its way: read in parts, each as large as what was granted. */
export interface BudgetedRun {
  readonly by: OriginReading;
  readonly run: ChunkRun;
  /** Chunks before it are read, being read, or no longer to be read. */
  next: number;
  readonly parts: Set<ChunkRun>;
}

/** The runs that this node reads of one registry host, in the order in which they were begun. */
export class BudgetedReads {
  readonly #partBytesMax: number;
  readonly #partsMax: number;
  readonly #runs = new Set<BudgetedRun>();

  constructor(limits: OriginLimits, partsMax: number) {
    this.#partBytesMax = grantBytesMax(limits);
    this.#partsMax = partsMax;
  }

  get isEmpty(): boolean {
    return this.#runs.size === 0;
  }

  add(by: OriginReading, run: ChunkRun): void {
    this.#runs.add({ by, run, next: run.firstChunk, parts: new Set() });
  }

  isWaiting(keyId: string): boolean {
    for (const { by, run, next } of this.#runs) if (by.keyId === keyId && next < endOf(run)) return true;
    return false;
  }

  /** What the next part costs; undefined when there is none, or enough are being read. */
  next(): BudgetAmount | undefined {
    const run = this.#partCount < this.#partsMax ? this.#nextRun() : undefined;
    return run && { bytes: bytesOf(run.by, this.#partOf(run, this.#partBytesMax)), requests: 1 };
  }

  /** Begins the next part; a grant of less than it costs allows less, but a chunk at least. */
  begin(grant: BudgetAmount): { readonly of: BudgetedRun; readonly part: ChunkRun } | undefined {
    const of = this.#nextRun();
    if (of === undefined) return undefined;
    const part = this.#partOf(of, grant.bytes);
    of.next = endOf(part);
    of.parts.add(part);
    return { of, part };
  }

  /** A part has ended; gives the run that it is of. */
  endPart(keyId: string, part: ChunkRun): BudgetedRun | undefined {
    for (const run of this.#runs) {
      const found = [...run.parts].find((other) => isSame(other, part));
      if (run.by.keyId !== keyId || found === undefined) continue;
      run.parts.delete(found);
      return run;
    }
    return undefined;
  }

  remove(run: BudgetedRun): void {
    this.#runs.delete(run);
  }

  find(keyId: string, run: ChunkRun): BudgetedRun | undefined {
    for (const each of this.#runs) if (each.by.keyId === keyId && isSame(each.run, run)) return each;
    return undefined;
  }

  /** Runs of which nothing is left to read. */
  finished(): BudgetedRun[] {
    return [...this.#runs].filter((run) => {
      this.#skip(run);
      return run.next >= endOf(run.run) && run.parts.size === 0;
    });
  }

  get #partCount(): number {
    let count = 0;
    for (const { parts } of this.#runs) count += parts.size;
    return count;
  }

  #nextRun(): BudgetedRun | undefined {
    for (const run of this.#runs) {
      this.#skip(run);
      if (run.next < endOf(run.run)) return run;
    }
    return undefined;
  }

  #skip(run: BudgetedRun): void {
    while (run.next < endOf(run.run) && !run.by.isToBeRead(run.next)) run.by.leaveOut(run.next++);
  }

  #partOf({ by, run, next }: BudgetedRun, bytesMax: number): ChunkRun {
    const countMax = Math.max(1, Math.floor(bytesMax / CHUNK_SIZE_BYTES));
    let chunkCount = 1;
    while (chunkCount < countMax && next + chunkCount < endOf(run) && by.isToBeRead(next + chunkCount))
      chunkCount++;
    return { firstChunk: next, chunkCount };
  }
}

function bytesOf({ sizeBytes }: OriginReading, { firstChunk, chunkCount }: ChunkRun): number {
  const fromBytes = firstChunk * CHUNK_SIZE_BYTES;
  return Math.max(1, Math.min(sizeBytes, fromBytes + chunkCount * CHUNK_SIZE_BYTES) - fromBytes);
}

function endOf({ firstChunk, chunkCount }: ChunkRun): number {
  return firstChunk + chunkCount;
}

function isSame(left: ChunkRun, right: ChunkRun): boolean {
  return left.firstChunk === right.firstChunk && left.chunkCount === right.chunkCount;
}
