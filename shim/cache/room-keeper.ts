import { stat, statfs } from 'node:fs/promises';
import type { CachedBlob } from './cached-blob.ts';
import { chooseEvictions, type EvictionCandidate } from './eviction.ts';
import { type DiskExcess, type DiskUsage, excessOf, usedRatioOf, type WaterMarks } from './water-marks.ts';

/** The file system fills without us, and demand for a blob ends without a call. */
export const ROOM_CHECK_MS = 10_000;
/** What arrives between two checks is at most this share of the file system, so that its marks are not overshot by more. */
const GROWTH_CHECK_SHARE = 0.01;
/** … and at most this much: a second of a fast disk. */
const GROWTH_CHECK_BYTES_MAX = 256 * 1024 * 1024;

/** Why blobs were dropped: the capacity, the file system's high water, or a disk that refused a write. */
export type EvictionReason = 'capacity' | 'highWater' | 'diskFailure';

export type RoomEvent =
  | {
      readonly kind: 'evicted';
      readonly reason: EvictionReason;
      readonly blobs: number;
      readonly bytes: number;
    }
  /** Above high water with nothing left to drop, or no longer so. */
  | { readonly kind: 'full'; readonly isFull: boolean; readonly usedPercent: number };

export interface RoomKeeperOptions {
  readonly directory: string;
  readonly capacityBytes: number;
  /** Without them the file system is not looked at. */
  readonly waterMarks: WaterMarks | undefined;
  readonly now: () => number;
  readonly blobs: () => Iterable<readonly [id: string, blob: CachedBlob]>;
  readonly drop: (blob: CachedBlob) => Promise<void>;
  readonly onEvent: ((event: RoomEvent) => void) | undefined;
}

/** Drops idle blobs when the cache or its file system is too full: when asked, after growth, and from time to time. */
export class RoomKeeper {
  readonly #options: RoomKeeperOptions;
  readonly #evictedBytes: Record<EvictionReason, number> = { capacity: 0, highWater: 0, diskFailure: 0 };
  readonly #timer: NodeJS.Timeout;
  #usage: DiskUsage | undefined;
  #isFull = false;
  #grownBytes = 0;
  #tail: Promise<void> = Promise.resolve();

  constructor(options: RoomKeeperOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.trim(), ROOM_CHECK_MS).unref();
  }

  /** Bytes of blobs that were dropped since the start. */
  get evictedBytes(): Readonly<Record<EvictionReason, number>> {
    return this.#evictedBytes;
  }

  /** How full the file system was when it was looked at last, 0 to 1. */
  get usedRatio(): number | undefined {
    return this.#usage && usedRatioOf(this.#usage);
  }

  /** So many bytes were written by live pulls. */
  noteGrowth(bytes: number): void {
    this.#grownBytes += bytes;
    const share = (this.#usage?.sizeBytes ?? Number.POSITIVE_INFINITY) * GROWTH_CHECK_SHARE;
    if (this.#grownBytes >= Math.min(share, GROWTH_CHECK_BYTES_MAX)) void this.trim();
  }

  /** Makes room, one call after the other: each counts what the one before has freed. Never rejects. */
  trim(): Promise<void> {
    return this.#inTurn(this.#options.capacityBytes, undefined);
  }

  /** Drops all idle blobs: the disk refused a write. Never rejects. */
  empty(): Promise<void> {
    return this.#inTurn(0, 'diskFailure');
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#tail;
  }

  #inTurn(capacityBytes: number, reason: EvictionReason | undefined): Promise<void> {
    this.#grownBytes = 0;
    const turn = this.#tail.then(() => this.#makeRoom(capacityBytes, reason));
    this.#tail = turn.catch(() => undefined);
    return this.#tail;
  }

  async #makeRoom(capacityBytes: number, reason: EvictionReason | undefined): Promise<void> {
    const { waterMarks, now } = this.#options;
    this.#usage = waterMarks && (await usageOf(this.#options.directory));
    const excess = waterMarks && this.#usage && excessOf(this.#usage, waterMarks);
    const candidates = await this.#candidates(excess !== undefined);
    const goals = { nowMs: now(), capacityBytes };
    const forSize = chooseEvictions(candidates, goals);
    const chosen = excess === undefined ? forSize : chooseEvictions(candidates, { ...goals, excess });
    await this.#evict(forSize, reason ?? 'capacity');
    await this.#evict(without(chosen, forSize), 'highWater');
    this.#tellWhetherFull(candidates, chosen, excess);
  }

  async #candidates(withLinks: boolean): Promise<EvictionCandidate[]> {
    const candidates: EvictionCandidate[] = [];
    for (const [id, blob] of this.#options.blobs()) {
      const { ownBytes: heldBytes, lastUsedMs, lastServedMs } = blob;
      const live = blob.pins > 0;
      // Only a file system that is too full makes it worth a look at each file.
      const freesBytes = withLinks && !live && heldBytes > 0 ? await freedBy(blob) : heldBytes;
      candidates.push({ id, heldBytes, freesBytes, lastUsedMs, lastServedMs, live });
    }
    return candidates;
  }

  async #evict(ids: readonly string[], reason: EvictionReason): Promise<void> {
    const blobs = new Map(this.#options.blobs());
    let [count, bytes] = [0, 0];
    for (const id of ids) {
      const blob = blobs.get(id);
      // A pull may have taken it up since.
      if (blob === undefined || blob.dropped || blob.pins > 0) continue;
      count += 1;
      bytes += blob.ownBytes;
      await this.#options.drop(blob);
    }
    if (count === 0) return;
    this.#evictedBytes[reason] += bytes;
    this.#options.onEvent?.({ kind: 'evicted', reason, blobs: count, bytes });
  }

  #tellWhetherFull(
    candidates: readonly EvictionCandidate[],
    dropped: readonly string[],
    excess: DiskExcess | undefined,
  ): void {
    const ids = new Set(dropped);
    const freed = candidates.reduce((sum, { id, freesBytes }) => sum + (ids.has(id) ? freesBytes : 0), 0);
    const isFull = excess !== undefined && freed < excess.overHighBytes;
    if (isFull === this.#isFull) return;
    this.#isFull = isFull;
    const usedPercent = Math.round((this.usedRatio ?? 0) * 100);
    this.#options.onEvent?.({ kind: 'full', isFull, usedPercent });
  }
}

/** Undefined when it cannot be told: then only the capacity counts. */
async function usageOf(directory: string): Promise<DiskUsage | undefined> {
  try {
    const { bavail, blocks, bsize } = await statfs(directory);
    return { sizeBytes: blocks * bsize, availableBytes: bavail * bsize };
  } catch {
    return undefined;
  }
}

async function freedBy(blob: CachedBlob): Promise<number> {
  const info = await stat(blob.paths.data).catch(() => undefined);
  return info?.nlink === 1 ? blob.ownBytes : 0;
}

function without(ids: readonly string[], others: readonly string[]): string[] {
  const excluded = new Set(others);
  return ids.filter((id) => !excluded.has(id));
}
