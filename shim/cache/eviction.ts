import type { DiskExcess } from './water-marks.ts';

/** A blob as the eviction decision sees it. */
export interface EvictionCandidate {
  readonly id: string;
  /** What counts against the capacity, bytes. */
  readonly heldBytes: number;
  /** What dropping it gives back to the file system: nothing, where the file has another name too. */
  readonly freesBytes: number;
  readonly lastUsedMs: number;
  /** When a peer had a chunk of it last; -Infinity when none ever did. */
  readonly lastServedMs: number;
  /** A live pull needs it: never dropped, and not counted against the capacity. */
  readonly live: boolean;
}

export interface EvictionGoals {
  readonly nowMs: number;
  /** Room for idle blobs. */
  readonly capacityBytes: number;
  /** What the file system has too much; undefined below high water. */
  readonly excess?: DiskExcess | undefined;
}

/** A blob of which a peer had a chunk so short a time ago is in demand: a peer that is busy with other layers comes back within that. */
export const IN_DEMAND_MS = 30_000;
/** Blobs in demand may take the cache beyond its capacity, but never beyond this many times it. */
export const IN_DEMAND_CAPACITY_FACTOR = 2;

/**
 * Which blobs to drop, least recently used first, so that idle ones fit into the capacity and the file system comes down to low water.
 * Blobs in demand go last and only as far as they must: for size, when all idle ones exceed twice the capacity; for the file
 * system, until it is at high water.
 */
export function chooseEvictions(blobs: Iterable<EvictionCandidate>, goals: EvictionGoals): string[] {
  const idle = [...blobs].filter((blob) => !blob.live && blob.heldBytes > 0);
  idle.sort((a, b) => a.lastUsedMs - b.lastUsedMs);
  const isInDemand = (blob: EvictionCandidate): boolean => goals.nowMs - blob.lastServedMs < IN_DEMAND_MS;
  const state = { idleBytes: idle.reduce((sum, blob) => sum + blob.heldBytes, 0), freedBytes: 0 };
  const { capacityBytes, excess } = goals;
  return [
    ...choose(
      idle.filter((blob) => !isInDemand(blob)),
      state,
      { idleBytes: capacityBytes, freedBytes: excess?.overLowBytes ?? 0 },
    ),
    ...choose(idle.filter(isInDemand), state, {
      idleBytes: capacityBytes * IN_DEMAND_CAPACITY_FACTOR,
      freedBytes: excess?.overHighBytes ?? 0,
    }),
  ];
}

interface Progress {
  idleBytes: number;
  freedBytes: number;
}

/** Takes blobs in their order until both goals are met, and notes in `state` what that does. */
function choose(blobs: readonly EvictionCandidate[], state: Progress, goal: Readonly<Progress>): string[] {
  const chosen: string[] = [];
  for (const blob of blobs) {
    const helps =
      state.idleBytes > goal.idleBytes || (state.freedBytes < goal.freedBytes && blob.freesBytes > 0);
    if (!helps) continue;
    chosen.push(blob.id);
    state.idleBytes -= blob.heldBytes;
    state.freedBytes += blob.freesBytes;
  }
  return chosen;
}
