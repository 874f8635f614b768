import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { flock, LockOperation } from './posix.ts';

const LOCK_NAME = '.lock';

/** Held for as long as the process lives, or until released; the kernel lets go of it however the process dies. */
export interface DirectoryLock extends AsyncDisposable {
  release(): Promise<void>;
}

/** Makes the directory if need be and takes it for this process alone; undefined when another process has it. */
export async function lockDirectory(directory: string): Promise<DirectoryLock | undefined> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const handle = await open(join(directory, LOCK_NAME), 'a', 0o600);
  if (!tryLock(handle)) {
    await handle.close();
    return undefined;
  }
  const release = (): Promise<void> => handle.close();
  return { release, [Symbol.asyncDispose]: release };
}

function tryLock(handle: FileHandle): boolean {
  try {
    flock(handle.fd, LockOperation.exclusive | LockOperation.nonBlocking);
    return true;
  } catch {
    return false;
  }
}
