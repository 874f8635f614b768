import type { ChunkLedger } from './chunk-ledger.ts';
import { runsWithin } from './hash-runs.ts';
import type { PeerId, PeerMessage } from './messages.ts';

interface ImportTask {
  /** Who holds the chunk, says the directory. */
  readonly source: PeerId;
  readonly untilMs: number;
  pausedUntilMs: number;
}

/** Imports that a node takes on at once. */
const TASKS_MAX = 64;
/** How long an import may count, ms. */
const TASK_MAX_MS = 10_000;

/**
 * Chunks that this node is to fetch from other zones for its own. They are asked for without following their source: it is
 * the only one that has them there and followed by as many as it has places for, and one chunk is all that is wanted of it.
 */
export class ImportTasks {
  readonly #ledger: ChunkLedger;
  readonly #tasks = new Map<number, ImportTask>();

  constructor(ledger: ChunkLedger) {
    this.#ledger = ledger;
  }

  /** Takes on what a directory gave; whether there is one whose hash is not known. */
  learn({ imports, holders }: Extract<PeerMessage, { kind: 'directory' }>, nowMs: number): boolean {
    const source = holders[0]?.peer;
    if (source === undefined || imports.length === 0) return false;
    const ttlMs = Math.min(TASK_MAX_MS, ...imports.map((run) => run.ttlMs));
    let lacksHash = false;
    for (const { firstChunk } of runsWithin(imports, this.#ledger.chunkCount, TASKS_MAX)) {
      // One chunk a run: a longer one would be of a directory that asks for too much.
      if (this.#tasks.size >= TASKS_MAX || this.#ledger.held.has(firstChunk) || !(ttlMs > 0)) continue;
      this.#tasks.set(firstChunk, { source, untilMs: nowMs + ttlMs, pausedUntilMs: nowMs });
      lacksHash ||= this.#ledger.hashes[firstChunk] === undefined;
    }
    return lacksHash;
  }

  /** What can be asked for now or after a pause. */
  *open(): Iterable<{ readonly chunk: number; readonly source: PeerId; readonly pausedUntilMs: number }> {
    for (const [chunk, { source, pausedUntilMs }] of this.#tasks)
      if (this.#ledger.open.has(chunk)) yield { chunk, source, pausedUntilMs };
  }

  /** Whether the chunk is to be imported from this peer. */
  isFrom(chunk: number, peer: PeerId): boolean {
    return this.#tasks.get(chunk)?.source === peer;
  }

  /** The source has no place for the request now. */
  pause(chunk: number, untilMs: number): void {
    const task = this.#tasks.get(chunk);
    if (task !== undefined) task.pausedUntilMs = untilMs;
  }

  /** Whether the chunk was to be imported. */
  end(chunk: number): boolean {
    return this.#tasks.delete(chunk);
  }

  expire(nowMs: number): void {
    for (const [chunk, { untilMs }] of this.#tasks) if (nowMs >= untilMs) this.#tasks.delete(chunk);
  }
}
