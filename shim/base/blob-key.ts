import type { Digest } from './digest.ts';

/**
 * The unit of sharing: bytes that one registry host let us read never serve a pull that names another host.
 * `host` is the registry host (with port, if any) of the image reference, never that of a mirror or redirect.
 */
export interface BlobKey {
  readonly host: string;
  readonly digest: Digest;
}

/** One string per key, for maps and logs. */
export function blobKeyId(key: BlobKey): string {
  if (key !== lastKey) {
    lastKey = key;
    lastId = `${key.host}/${key.digest}`;
  }
  return lastId;
}

/** Keys are immutable, and the same one is asked for many times in a row: its string (and that string's hash) is kept. */
let lastKey: BlobKey | undefined;
let lastId = '';
