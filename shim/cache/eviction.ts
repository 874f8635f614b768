/** A blob as the eviction decision sees it. */
export interface EvictionCandidate {
  readonly id: string;
  /** What dropping it frees, bytes. */
  readonly heldBytes: number;
  readonly lastUsedMs: number;
  /** A live pull needs it: never dropped, and not counted against the capacity. */
  readonly live: boolean;
}

/** Which blobs to drop, least recently used first, so that the idle ones fit into `capacityBytes`. */
export function chooseEvictions(blobs: Iterable<EvictionCandidate>, capacityBytes: number): string[] {
  const idle = [...blobs].filter((blob) => !blob.live && blob.heldBytes > 0);
  let idleBytes = idle.reduce((sum, blob) => sum + blob.heldBytes, 0);
  if (idleBytes <= capacityBytes) return [];
  idle.sort((a, b) => a.lastUsedMs - b.lastUsedMs);
  const dropped: string[] = [];
  for (const blob of idle) {
    if (idleBytes <= capacityBytes) break;
    dropped.push(blob.id);
    idleBytes -= blob.heldBytes;
  }
  return dropped;
}
