import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';
import { flock, LockOperation } from '../base/posix.ts';

const LOCK_SUFFIX = '.lock';
/** `L`: a lock file tells whether the process lives. `X`: nothing does, so its leases have to run out. */
const OWNER_PATTERN = /shoal-([LX][0-9a-f]{16})-/;

/**
 * One process that imports, as it is named in leases, ingests, snapshots and staging directories. It holds an exclusive lock
 * on a file for as long as it lives; the kernel lets go of it when it dies, whatever the way.
 */
export class Owner {
  readonly id: string;
  readonly #lock: FileHandle | undefined;
  readonly #path: string | undefined;

  private constructor(id: string, lock?: FileHandle, path?: string) {
    this.id = id;
    this.#lock = lock;
    this.#path = path;
  }

  /** `directory` must exist. Without one nobody can tell whether this process lives. */
  static async claim(directory: string | undefined): Promise<Owner> {
    const random = randomBytes(8).toString('hex');
    if (directory === undefined) return new Owner(`X${random}`);
    const id = `L${random}`;
    const path = lockPath(directory, id);
    // Locked before it has its name's meaning to others: a sweep that finds it unlocked removes it.
    for (;;) {
      const lock = await openLock(path);
      if (tryLock(lock) && (await isLinked(path, lock))) return new Owner(id, lock, path);
      await lock.close();
    }
  }

  async release(): Promise<void> {
    if (this.#path !== undefined) await rm(this.#path, { force: true });
    await this.#lock?.close();
  }
}

/** The owner named in a reference, key or lease ID, if it is one of ours. */
export function ownerOf(name: string): string | undefined {
  return OWNER_PATTERN.exec(name)?.[1];
}

/** Whether an owner's process has ended. `undefined`: nobody can tell. */
export async function isDead(directory: string | undefined, id: string): Promise<boolean | undefined> {
  if (!id.startsWith('L') || directory === undefined) return undefined;
  let lock: FileHandle;
  try {
    lock = await open(lockPath(directory, id), 'r+');
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT') return true;
    return undefined;
  }
  try {
    return tryLock(lock);
  } finally {
    await lock.close();
  }
}

export function lockPath(directory: string, id: string): string {
  return join(directory, id + LOCK_SUFFIX);
}

async function openLock(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'a', 0o600);
  } catch (error) {
    const found = nodeErrorCode(error) ?? 'unknown error';
    throw new ShoalError(ErrorCode.StoreUnavailable, `Cannot lock "${path}": ${found}`, { cause: error });
  }
}

function tryLock(lock: FileHandle): boolean {
  try {
    flock(lock.fd, LockOperation.exclusive | LockOperation.nonBlocking);
    return true;
  } catch {
    return false;
  }
}

async function isLinked(path: string, lock: FileHandle): Promise<boolean> {
  const [named, held] = await Promise.all([stat(path).catch(() => undefined), lock.stat()]);
  return named?.ino === held.ino;
}
