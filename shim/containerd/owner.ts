import { randomBytes } from 'node:crypto';
import { closeSync, fstatSync, openSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';
import { flock, LockOperation } from '../base/posix.ts';

const LOCK_SUFFIX = '.lock';
/** `L`: a lock file tells whether the process lives. `X`: nothing does, so its leases have to run out. */
const OWNER_PATTERN = /shoal-([LX][0-9a-f]{16})-/;
const SESSION_PATTERN = /shoal-[LX][0-9a-f]{16}-\d+/;

/**
 * One process that imports, as it is named in leases, ingests, snapshots and staging directories. It holds an exclusive lock
 * on a file for as long as it lives; the kernel lets go of it when it dies, whatever the way.
 */
export class Owner {
  readonly id: string;
  /** A plain descriptor, not a FileHandle: nothing but `release` or the process's end may close it. */
  #lock: number | undefined;
  readonly #path: string | undefined;

  private constructor(id: string, lock?: number, path?: string) {
    this.id = id;
    this.#lock = lock;
    this.#path = path;
  }

  /** `directory` must exist. Without one nobody can tell whether this process lives. */
  static claim(directory: string | undefined): Owner {
    const random = randomBytes(8).toString('hex');
    if (directory === undefined) return new Owner(`X${random}`);
    const id = `L${random}`;
    const path = lockPath(directory, id);
    // Locked before it has its name's meaning to others: a sweep that finds it unlocked removes it.
    for (;;) {
      const lock = openLock(path);
      if (tryLock(lock) && isLinked(path, lock)) return new Owner(id, lock, path);
      closeSync(lock);
    }
  }

  async release(): Promise<void> {
    if (this.#path !== undefined) await rm(this.#path, { force: true });
    if (this.#lock !== undefined) closeSync(this.#lock);
    this.#lock = undefined;
  }
}

/** The owner named in a reference, key or lease ID, if it is one of ours. */
export function ownerOf(name: string): string | undefined {
  return OWNER_PATTERN.exec(name)?.[1];
}

/** The session `shoal-<owner>-<number>` named in a reference, key or lease ID, if it is one of ours. */
export function sessionOf(name: string): string | undefined {
  return SESSION_PATTERN.exec(name)?.[0];
}

/** Whether an owner's process has ended. `undefined`: nobody can tell. */
export function isDead(directory: string | undefined, id: string): boolean | undefined {
  if (!id.startsWith('L') || directory === undefined) return undefined;
  let lock: number;
  try {
    lock = openSync(lockPath(directory, id), 'r+');
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT') return true;
    return undefined;
  }
  try {
    return tryLock(lock);
  } finally {
    closeSync(lock);
  }
}

export function lockPath(directory: string, id: string): string {
  return join(directory, id + LOCK_SUFFIX);
}

function openLock(path: string): number {
  try {
    return openSync(path, 'a', 0o600);
  } catch (error) {
    const found = nodeErrorCode(error) ?? 'unknown error';
    throw new ShoalError(ErrorCode.StoreUnavailable, `Cannot lock "${path}": ${found}`, { cause: error });
  }
}

function tryLock(lock: number): boolean {
  try {
    flock(lock, LockOperation.exclusive | LockOperation.nonBlocking);
    return true;
  } catch {
    return false;
  }
}

function isLinked(path: string, lock: number): boolean {
  return statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(lock).ino;
}
