import type { BlobKey } from '../../shim/base/blob-key.ts';
import type { Digest } from '../../shim/base/digest.ts';
import { CHUNK_SIZE_BYTES, chunkCountOf } from '../../shim/swarm/limits.ts';
import type { ChunkHash, HashRun } from '../../shim/swarm/messages.ts';

/** Which bytes a chunk has: none, the true ones, or (from here on) the wrong ones of some liar. */
export const NO_BYTES = 0;
export const TRUE_BYTES = 1;
const FIRST_WRONG_BYTES = 2;

/** A blob without bytes: only which bytes a chunk has is told apart, by their hashes. */
export interface SimBlob {
  readonly index: number;
  readonly key: BlobKey;
  readonly sizeBytes: number;
  readonly chunkCount: number;
  readonly hashes: readonly HashRun[];
}

export function makeBlob(index: number, sizeBytes: number): SimBlob {
  const digest = `sha256:${index.toString(16).padStart(64, '0')}` as Digest;
  const chunkCount = chunkCountOf(sizeBytes);
  const hashes = Array.from({ length: chunkCount }, (_, chunk) => hashOf(index, chunk, TRUE_BYTES));
  const key = { host: 'registry.test', digest };
  return { index, key, sizeBytes, chunkCount, hashes: [{ firstChunk: 0, hashes }] };
}

export function chunkBytesOf({ sizeBytes }: SimBlob, chunk: number): number {
  return Math.min(CHUNK_SIZE_BYTES, sizeBytes - chunk * CHUNK_SIZE_BYTES);
}

export function chunkHashOf(blob: SimBlob, chunk: number, bytes: number): ChunkHash {
  return bytes === TRUE_BYTES
    ? (blob.hashes[0]?.hashes[chunk] as ChunkHash)
    : hashOf(blob.index, chunk, bytes);
}

export function wrongBytesOf(node: number): number {
  return FIRST_WRONG_BYTES + (node % (256 - FIRST_WRONG_BYTES));
}

function hashOf(blob: number, chunk: number, bytes: number): ChunkHash {
  const hash = new Uint8Array(32);
  new DataView(hash.buffer).setUint32(0, chunk);
  hash[30] = bytes;
  hash[31] = blob;
  return hash;
}
