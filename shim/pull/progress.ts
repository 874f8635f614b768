import type { Digest } from '../base/digest.ts';
import type { TransferCounts } from '../peer/transfer.ts';

/** Where one layer is on its way. `present` = the store had it before. */
export type LayerPhase = 'waiting' | 'present' | 'fetching' | 'importing' | 'done';

export interface LayerProgress {
  readonly digest: Digest;
  readonly sizeBytes: number;
  phase: LayerPhase;
  /** Verified bytes in order, of `sizeBytes`. */
  fetchedBytes: number;
  counts: TransferCounts;
}

/** One pull's state, plain data: what `shoal pull` draws and what `--json` prints. */
export interface PullSnapshot {
  readonly reference: string;
  readonly digest: Digest | undefined;
  readonly layers: readonly Readonly<LayerProgress>[];
  readonly counts: TransferCounts;
}

export const NO_BYTES: TransferCounts = { originBytes: 0, peerBytes: 0, cacheBytes: 0 };

/** Written by the pull, read by whoever shows it. */
export class PullProgress {
  readonly reference: string;
  digest: Digest | undefined;
  layers: LayerProgress[] = [];
  #followed: PullProgress | undefined;

  constructor(reference: string) {
    this.reference = reference;
  }

  begin(digest: Digest, layers: readonly { readonly digest: Digest; readonly sizeBytes: number }[]): void {
    this.digest = digest;
    this.layers = layers.map((layer) => ({ ...layer, phase: 'waiting', fetchedBytes: 0, counts: NO_BYTES }));
  }

  update(index: number, change: Partial<Pick<LayerProgress, 'phase' | 'fetchedBytes' | 'counts'>>): void {
    const layer = this.layers[index];
    if (layer !== undefined) Object.assign(layer, change);
  }

  /** Shows another one's layers, of the same image, until told otherwise: this pull waits for that. */
  follow(other: PullProgress | undefined): void {
    this.#followed = other;
  }

  snapshot(): PullSnapshot {
    const { reference, digest } = this;
    const layers = (this.#followed ?? this).layers.map((layer) => ({ ...layer }));
    return {
      reference,
      digest,
      layers,
      counts: layers.map((layer) => layer.counts).reduce(addCounts, NO_BYTES),
    };
  }
}

export function addCounts(a: TransferCounts, b: TransferCounts): TransferCounts {
  return {
    originBytes: a.originBytes + b.originBytes,
    peerBytes: a.peerBytes + b.peerBytes,
    cacheBytes: a.cacheBytes + b.cacheBytes,
  };
}

/**
 * Sums up attempts to bring one image, each of which found in the cache what those before it had fetched: that counts
 * once, where it came from first.
 */
export function addAttempts(attempts: readonly TransferCounts[]): TransferCounts {
  let movedBytes = 0;
  let cacheBytes = 0;
  for (const counts of attempts) {
    cacheBytes = Math.max(cacheBytes, counts.cacheBytes - movedBytes);
    movedBytes += counts.originBytes + counts.peerBytes;
  }
  return { ...attempts.reduce(addCounts, NO_BYTES), cacheBytes };
}
