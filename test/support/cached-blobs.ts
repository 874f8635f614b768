import { createHash, randomBytes } from 'node:crypto';
import { digestOf } from '../../shim/base/digest.ts';
import type { CachedBlob } from '../../shim/cache/cached-blob.ts';
import type { DiskCache } from '../../shim/cache/disk-cache.ts';

export const keyOf = (name: string, host = 'registry.test') => ({ host, digest: digestOf(name) });

/** Writes random chunks until the blob is complete; `beforeChunk` is called ahead of each. */
export async function fill(blob: CachedBlob, beforeChunk?: (chunk: number) => void): Promise<void> {
  for (let chunk = 0; chunk < blob.chunkCount; chunk++) {
    beforeChunk?.(chunk);
    const bytes = randomBytes(blob.chunkBytes(chunk));
    await blob.write(chunk * blob.chunkSizeBytes, [bytes]);
    await blob.claim(chunk, createHash('sha256').update(bytes).digest());
  }
}

/** A complete blob that no pull needs any more. */
export async function put(cache: DiskCache, name: string, sizeBytes: number): Promise<CachedBlob> {
  const blob = await cache.pin(keyOf(name), sizeBytes);
  await fill(blob);
  await blob.confirm();
  await cache.unpin(blob);
  return blob;
}
