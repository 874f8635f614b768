import { randomUUID } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Ends the names of files that are being written; what a crash leaves of them is for the owner of the directory to remove. */
export const TEMPORARY_SUFFIX = '.tmp';

/**
 * Writes a file so that a crash at any point leaves either the old content or the new one: a temporary file in the same
 * directory, fsync, rename, fsync of the directory.
 */
export async function writeFileDurably(path: string, content: Uint8Array | string): Promise<void> {
  const partial = `${path}.${randomUUID()}${TEMPORARY_SUFFIX}`;
  try {
    await writeAndSync(partial, content);
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** Makes renames and new names in `directory` survive a power cut. */
export async function syncDirectory(directory: string): Promise<void> {
  await withFile(directory, 'r', (handle) => handle.sync());
}

/** Makes the content of a file survive a power cut. */
export async function syncFile(path: string): Promise<void> {
  await withFile(path, 'r', (handle) => handle.datasync());
}

async function writeAndSync(path: string, content: Uint8Array | string): Promise<void> {
  await withFile(path, 'wx', async (handle) => {
    await handle.writeFile(content);
    await handle.sync();
  });
}

async function withFile(
  path: string,
  flags: string,
  use: (handle: FileHandle) => Promise<void>,
): Promise<void> {
  const handle = await open(path, flags, 0o644);
  try {
    await use(handle);
  } finally {
    await handle.close();
  }
}
