import type { BlobKey } from '../base/blob-key.ts';
import type { Transfer } from '../peer/transfer.ts';

export interface HeldBlob {
  readonly key: BlobKey;
  readonly sizeBytes: number;
  /** A file that holds the whole blob, unchecked. */
  readonly path: string;
}

/** A transfer of a blob that the store has already and only lacks the tree of: nothing moves, unless it proves wrong. */
export function heldTransfer(blob: HeldBlob, openTransfer: () => Transfer): Transfer {
  return {
    ...blob,
    prefixBytes: blob.sizeBytes,
    counts: { originBytes: 0, peerBytes: 0, cacheBytes: blob.sizeBytes },
    finished: Promise.resolve(),
    isHeldBack: false,
    isProven: false,
    consumed: () => undefined,
    onPrefix: () => () => undefined,
    seal: async () => undefined,
    confirm: async () => undefined,
    distrust: async () => openTransfer(),
    release: () => undefined,
  };
}
