import { NO_BYTES, type SimBlob } from './sim-blob.ts';
import type { SimNode, StoredBlob } from './sim-node.ts';
import type { WorldHost } from './world-host.ts';

export function emptyStore(blob: SimBlob): StoredBlob {
  return {
    blob,
    bytes: new Uint8Array(blob.chunkCount),
    touchedAt: new Float64Array(blob.chunkCount),
    held: 0,
    unpacked: 0,
    hasWorker: false,
    isUnpacking: false,
    hashed: 0,
    isJoined: false,
    isDistrusted: false,
  };
}

/** Puts a chunk into the node's store, before its core hears of it. */
export function keep(
  host: WorldHost,
  node: SimNode,
  { blob, chunk, bytes }: { blob: SimBlob; chunk: number; bytes: number },
): void {
  const stored = node.stored.get(blob);
  if (stored === undefined) return;
  // As in the agent's cache, a second copy does not replace the first.
  if (stored.bytes[chunk] !== NO_BYTES) return;
  stored.held++;
  stored.bytes[chunk] = bytes;
  stored.touchedAt[chunk] = node.machine.cachedBytes;
  for (const observer of host.observers) observer.onStored?.(node, blob, chunk, host.nowMs);
}

export function forgetAll(stored: StoredBlob): void {
  stored.bytes.fill(NO_BYTES);
  stored.held = 0;
  stored.unpacked = 0;
  stored.hashed = 0;
}
