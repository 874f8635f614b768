import { type FileHandle, mkdir, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { nodeErrorCode } from '../base/errors.ts';
import type { BlobPaths } from './blob-path.ts';

/** The directory may be missing, and then an old file be there. */
const OPEN_ATTEMPTS_MAX = 3;

/** The data and the sidecar of one blob, open for reading and writing. */
export interface BlobFiles {
  readonly data: FileHandle;
  readonly meta: FileHandle;
}

/**
 * Makes the two files of a new blob: data of `sizeBytes` without content, and a sidecar that begins with `header`. A pull waits for
 * this, so each step is one round through the pool of threads, and both files go through it side by side. A crash leaves either
 * without the other, or a torn sidecar: recovery removes all of these. Rejects with the file system's error, and leaves nothing open.
 */
export async function createFiles(
  paths: BlobPaths,
  sizeBytes: number,
  header: Uint8Array,
): Promise<BlobFiles> {
  const [data, meta] = await Promise.allSettled([
    createWith(paths.data, (handle) => handle.truncate(sizeBytes)),
    createWith(paths.meta, (handle) => handle.write(header)),
  ]);
  if (data.status === 'fulfilled' && meta.status === 'fulfilled')
    return { data: data.value, meta: meta.value };
  for (const each of [data, meta]) if (each.status === 'fulfilled') await each.value.close();
  throw data.status === 'rejected' ? data.reason : (meta as PromiseRejectedResult).reason;
}

async function createWith(path: string, fill: (handle: FileHandle) => Promise<unknown>): Promise<FileHandle> {
  const handle = await openNew(path);
  try {
    await fill(handle);
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Never a file that is there: it may be linked, and then somebody else's too. */
async function openNew(path: string): Promise<FileHandle> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await open(path, 'wx+', 0o600);
    } catch (error) {
      const code = nodeErrorCode(error);
      if (attempt === OPEN_ATTEMPTS_MAX || (code !== 'ENOENT' && code !== 'EEXIST')) throw error;
      if (code === 'ENOENT') await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      else await rm(path, { force: true });
    }
  }
}
