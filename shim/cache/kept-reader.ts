import { fstatSync, readSync } from 'node:fs';
import { type FileHandle, open, statfs } from 'node:fs/promises';
import { nodeErrorCode } from '../base/errors.ts';
import { readIfCached } from '../base/posix.ts';

/** A file is opened anew after this long: whoever removes it gets its room back. */
const KEPT_OPEN_MS = 2_000;
/** statfs(2): a file system in memory. It does not know reads that do not wait, and none of them waits. */
const TMPFS_MAGIC = 0x01021994;

/** Gives how many bytes, from the first, could be had without waiting for a disk. */
type MemoryRead = (fd: number, bytes: Uint8Array, offsetBytes: number) => number;

interface KeptFile {
  readonly path: string;
  readonly handle: Promise<FileHandle>;
  readonly timer: NodeJS.Timeout;
  users: number;
}

/**
 * Reads of one file, which stays open in between. What the kernel has in memory is copied at once: a thread of the pool would
 * have to be woken for it, and leave the bytes in another processor's cache. Only the rest goes to the pool.
 */
export class KeptReader {
  #file: KeptFile | undefined;
  #readMemory: MemoryRead = readIfCached;

  /** Reads from `path`. False when the file ends before `bytes` are full. Rejects with the error of the file system: ENOENT also where it was there. */
  async read(path: string, bytes: Uint8Array, offsetBytes: number): Promise<boolean> {
    const file = this.#keep(path);
    file.users += 1;
    try {
      const handle = await file.handle;
      if (fstatSync(handle.fd).nlink === 0) throw removed(path);
      return await this.readFrom({ path, handle }, bytes, offsetBytes);
    } catch (error) {
      this.#forget(file);
      throw error;
    } finally {
      file.users -= 1;
      if (this.#file !== file && file.users === 0) await close(file);
    }
  }

  /** The same from a file that somebody else has opened, and closes. */
  async readFrom(
    file: { readonly path: string; readonly handle: FileHandle },
    bytes: Uint8Array,
    offsetBytes: number,
  ): Promise<boolean> {
    let done = await this.#fromMemory(file, bytes, offsetBytes);
    while (done < bytes.length) {
      const { bytesRead } = await file.handle.read(bytes, done, bytes.length - done, offsetBytes + done);
      if (bytesRead === 0) return false;
      done += bytesRead;
    }
    return true;
  }

  /** Closes the file, or leaves that to the last read that is under way. */
  async close(): Promise<void> {
    const file = this.#file;
    if (file === undefined) return;
    this.#forget(file);
    if (file.users === 0) await close(file);
  }

  #keep(path: string): KeptFile {
    const kept = this.#file;
    if (kept?.path === path) return kept;
    void this.close();
    const timer = setTimeout(() => void this.close(), KEPT_OPEN_MS).unref();
    this.#file = { path, handle: open(path, 'r'), timer, users: 0 };
    return this.#file;
  }

  #forget(file: KeptFile): void {
    clearTimeout(file.timer);
    if (this.#file === file) this.#file = undefined;
  }

  async #fromMemory(
    { path, handle }: { readonly path: string; readonly handle: FileHandle },
    bytes: Uint8Array,
    offsetBytes: number,
  ): Promise<number> {
    try {
      return this.#readMemory(handle.fd, bytes, offsetBytes);
    } catch (error) {
      if (nodeErrorCode(error) !== 'ENOTSUP') throw error;
      this.#readMemory = (await isInMemory(path)) ? readAtOnce : readNothing;
      return 0;
    }
  }
}

function readAtOnce(fd: number, bytes: Uint8Array, offsetBytes: number): number {
  return readSync(fd, bytes, 0, bytes.length, offsetBytes);
}

function removed(path: string): Error {
  return Object.assign(new Error(`Cannot read "${path}": it was removed`), { code: 'ENOENT' });
}

function readNothing(): number {
  return 0;
}

async function isInMemory(path: string): Promise<boolean> {
  return (await statfs(path)).type === TMPFS_MAGIC;
}

/** Never rejects: a file that could not be opened has told its readers. */
async function close(file: KeptFile): Promise<void> {
  await file.handle.then((handle) => handle.close()).catch(() => undefined);
}
