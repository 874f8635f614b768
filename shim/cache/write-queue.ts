import type { FileHandle } from 'node:fs/promises';

/** Bytes that one system call writes at most: the wait for it must stay short for whoever comes next. */
const JOINED_BYTES_MAX = 8 * 1024 * 1024;

interface WaitingWrite {
  readonly offsetBytes: number;
  readonly endBytes: number;
  readonly pieces: readonly Uint8Array[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Writes to one file, one at a time: the kernel lets only one through anyway, and threads that wait for it burn CPU. What
 * has to wait is written together where it lies side by side, so that the queue keeps up however long a turn of the process takes.
 */
export class WriteQueue {
  readonly #waiting: WaitingWrite[] = [];
  #running: Promise<void> | undefined;

  /** Rejects with the error of the file system. `handle` must stay open until `settled`. */
  write(handle: FileHandle, offsetBytes: number, pieces: readonly Uint8Array[]): Promise<void> {
    const endBytes = pieces.reduce((sum, piece) => sum + piece.length, offsetBytes);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ offsetBytes, endBytes, pieces, resolve, reject });
      this.#running ??= this.#run(handle);
    });
  }

  /** Waits for all that is under way or waiting; never rejects. */
  async settled(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  async #run(handle: FileHandle): Promise<void> {
    for (let joined = this.#takeJoined(); joined.length > 0; joined = this.#takeJoined()) {
      try {
        await writeFully(handle, joined);
        for (const { resolve } of joined) resolve();
      } catch (error) {
        for (const { reject } of joined) reject(error);
      }
    }
    this.#running = undefined;
  }

  /** The first that waits, and those that go on where it ends. */
  #takeJoined(): WaitingWrite[] {
    const first = this.#waiting.shift();
    if (first === undefined) return [];
    const joined = [first];
    let { endBytes } = first;
    while (endBytes - first.offsetBytes < JOINED_BYTES_MAX) {
      const next = this.#takeAt(endBytes);
      if (next === undefined) break;
      joined.push(next);
      endBytes = next.endBytes;
    }
    return joined;
  }

  /** Never one that would overtake an earlier write to the same bytes. */
  #takeAt(offsetBytes: number): WaitingWrite | undefined {
    const at = this.#waiting.findIndex((write) => write.offsetBytes === offsetBytes);
    const found = this.#waiting[at];
    if (found === undefined) return undefined;
    const isLater = this.#waiting.slice(0, at).some((earlier) => overlap(earlier, found));
    if (isLater) return undefined;
    this.#waiting.splice(at, 1);
    return found;
  }
}

function overlap(one: WaitingWrite, other: WaitingWrite): boolean {
  return one.offsetBytes < other.endBytes && other.offsetBytes < one.endBytes;
}

async function writeFully(handle: FileHandle, writes: readonly WaitingWrite[]): Promise<void> {
  let at = writes[0]?.offsetBytes ?? 0;
  let rest: readonly Uint8Array[] = writes.flatMap(({ pieces }) => pieces);
  while (rest.length > 0) {
    const { bytesWritten } = await handle.writev(rest as Uint8Array[], at);
    at += bytesWritten;
    rest = skipBytes(rest, bytesWritten);
  }
}

function skipBytes(pieces: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  let skip = count;
  let index = 0;
  for (let piece = pieces[index]; piece !== undefined && skip >= piece.length; piece = pieces[++index])
    skip -= piece.length;
  const rest = pieces.slice(index);
  if (skip > 0 && rest[0] !== undefined) rest[0] = rest[0].subarray(skip);
  return rest;
}
