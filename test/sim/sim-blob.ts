import type { BlobKey } from '../../shim/base/blob-key.ts';
import type { Digest } from '../../shim/base/digest.ts';
import { CHUNK_SIZE_BYTES, chunkCountOf } from '../../shim/swarm/limits.ts';
import type { HashRun } from '../../shim/swarm/messages.ts';

export interface SimBlob {
  readonly key: BlobKey;
  readonly sizeBytes: number;
  readonly hashes: HashRun[];
}

/** A blob without bytes: only its hashes are told apart. */
export function makeBlob(index: number, sizeBytes: number): SimBlob {
  const digest = `sha256:${index.toString(16).padStart(64, '0')}` as Digest;
  const hashes = Array.from({ length: chunkCountOf(sizeBytes) }, (_, chunk) => {
    const hash = new Uint8Array(32);
    new DataView(hash.buffer).setUint32(0, chunk);
    hash[31] = index;
    return hash;
  });
  return { key: { host: 'registry.test', digest }, sizeBytes, hashes: [{ firstChunk: 0, hashes }] };
}

export function chunkBytesOf({ sizeBytes }: SimBlob, chunk: number): number {
  return Math.min(CHUNK_SIZE_BYTES, sizeBytes - chunk * CHUNK_SIZE_BYTES);
}
