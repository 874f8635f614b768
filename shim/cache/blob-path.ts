import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { BlobKey } from '../base/blob-key.ts';
import { hexOf } from '../base/digest.ts';

/** Version of the directory layout and of the sidecar format; another version is another directory. */
export const LAYOUT_VERSION = 'v1';
/** Hex digits of the host's hash in a path: hosts are few, and the sidecar holds the whole name. */
const HOST_HEX_DIGITS = 16;

export interface BlobPaths {
  readonly directory: string;
  readonly data: string;
  readonly meta: string;
}

/** `v1/<host hash>/<ab>/<digest>.{blob,meta}`: host names may hold characters that paths may not. */
export function blobPathsOf(root: string, key: BlobKey): BlobPaths {
  const hex = hexOf(key.digest);
  const host = createHash('sha256').update(key.host).digest('hex').slice(0, HOST_HEX_DIGITS);
  const directory = join(root, LAYOUT_VERSION, host, hex.slice(0, 2));
  return { directory, data: join(directory, `${hex}.blob`), meta: join(directory, `${hex}.meta`) };
}
