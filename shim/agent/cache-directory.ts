import { readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type DirectoryLock, lockDirectory } from '../base/directory-lock.ts';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';

/** A cache directory that no other process uses. */
export interface CacheDirectory {
  readonly path: string;
  close(): Promise<void>;
}

/**
 * Takes the cache directory for this process. A pull without an agent (`alone`) that finds it taken uses one of its own
 * for as long as it lives. @throws CacheUnavailable
 */
export async function takeCacheDirectory(path: string, alone: boolean): Promise<CacheDirectory> {
  const lock = await lockOrThrow(path);
  if (lock !== undefined) {
    await removeAbandoned(path);
    return { path, close: () => lock.release() };
  }
  if (!alone)
    throw new ShoalError(
      ErrorCode.CacheUnavailable,
      `Cannot use cache directory "${path}": another agent uses it; give each its own p2p.v2.cache.directory`,
    );
  const own = `${path}${OWN_INFIX}${process.pid}`;
  const ownLock = await lockOrThrow(own);
  const close = async (): Promise<void> => {
    await rm(own, { recursive: true, force: true });
    await ownLock?.release();
  };
  return { path: own, close };
}

const OWN_INFIX = '.once-';

/** Directories of pulls that died: nobody holds their lock. */
async function removeAbandoned(path: string): Promise<void> {
  const siblings = await readdir(dirname(path)).catch(() => []);
  for (const name of siblings.filter((each) => each.startsWith(`${basename(path)}${OWN_INFIX}`))) {
    const directory = join(dirname(path), name);
    const lock = await lockOrThrow(directory);
    if (lock === undefined) continue;
    await rm(directory, { recursive: true, force: true });
    await lock.release();
  }
}

async function lockOrThrow(path: string): Promise<DirectoryLock | undefined> {
  try {
    return await lockDirectory(path);
  } catch (cause) {
    const found = nodeErrorCode(cause) ?? 'failed';
    throw new ShoalError(ErrorCode.CacheUnavailable, `Cannot use cache directory "${path}": ${found}`, {
      cause,
    });
  }
}
