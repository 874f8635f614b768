import { closeSync, fstatSync, mkdirSync, openSync, renameSync, write, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';

/** Where finished lines go. Never blocks and never throws: what cannot be written in time is dropped and counted. */
export interface LogSink {
  write(lines: string): void;
  readonly droppedLines: number;
  /** Writes what is waiting at once, for the moment before the process dies. */
  flushSync(): void;
  /** Writes what is waiting; a reader that does not read holds this up for a second at most. */
  close(): Promise<void>;
}

/** Characters waiting for a slow terminal, pipe or disk; beyond them lines are dropped. About 20,000 audit lines. */
const waitingLengthMax = 4 * 1024 * 1024;
/** A file is renamed to `NAME.1` when it is this long, so that logs take at most twice as much. */
const defaultFileBytesMax = 64 * 1024 * 1024;
const closeTimeoutMs = 1000;
/** A full pipe (EAGAIN) is tried again after this long. */
const retryMs = 20;
const writeAsync = promisify(write);

/** Lines to a file descriptor that stays open: 1 (standard output) or 2 (standard error). */
export function openDescriptorSink(descriptor: number): LogSink {
  return new BoundedSink(descriptor);
}

/**
 * Lines to `directory/name`, appended, with one older file kept beside it.
 *
 * @throws ShoalError ConfigInvalid when the file cannot be opened
 */
export function openFileSink(directory: string, name: string, fileBytesMax = defaultFileBytesMax): LogSink {
  const path = join(directory, name);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o750 });
    return new BoundedSink(openForAppend(path), { path, fileBytesMax });
  } catch (cause) {
    const state = `${nodeErrorCode(cause) ?? 'an error'}, a file that can be appended to is wanted (DeployConfig.logDir)`;
    throw new ShoalError(ErrorCode.ConfigInvalid, `Cannot open log file "${path}": ${state}`, { cause });
  }
}

function openForAppend(path: string): number {
  return openSync(path, 'a', 0o640);
}

interface RotatedFile {
  readonly path: string;
  readonly fileBytesMax: number;
}

class BoundedSink implements LogSink {
  #descriptor: number;
  readonly #file: RotatedFile | undefined;
  #fileBytes: number;
  #waiting: string[] = [];
  #waitingLength = 0;
  /** The write under way, if any: there is never more than one. */
  #pumping: Promise<void> | undefined;
  #closed: Promise<void> | undefined;
  #droppedLines = 0;

  constructor(descriptor: number, file?: RotatedFile) {
    this.#descriptor = descriptor;
    this.#file = file;
    this.#fileBytes = file === undefined ? 0 : fstatSync(descriptor).size;
  }

  get droppedLines(): number {
    return this.#droppedLines;
  }

  write(lines: string): void {
    if (this.#closed !== undefined || this.#waitingLength + lines.length > waitingLengthMax) {
      this.#droppedLines += countLines(lines);
      return;
    }
    this.#waiting.push(lines);
    this.#waitingLength += lines.length;
    this.#pumping ??= this.#pump();
  }

  flushSync(): void {
    const bytes = this.#take();
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#descriptor, bytes, at);
    } catch {
      this.#droppedLines += countLines(bytes.toString());
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  async #pump(): Promise<void> {
    // Lines of the same turn of the event loop go out in one write.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const bytes = this.#take();
      try {
        await this.#writeAll(bytes);
      } catch {
        // A full disk or a closed pipe must not end the agent.
        this.#droppedLines += countLines(bytes.toString());
      }
      this.#rotate();
    }
    this.#pumping = undefined;
  }

  #take(): Buffer {
    const bytes = Buffer.from(this.#waiting.join(''));
    this.#waiting = [];
    this.#waitingLength = 0;
    return bytes;
  }

  async #writeAll(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      try {
        const { bytesWritten } = await writeAsync(this.#descriptor, bytes, at);
        at += bytesWritten;
        this.#fileBytes += bytesWritten;
      } catch (error) {
        if (nodeErrorCode(error) !== 'EAGAIN') throw error;
        await sleep(retryMs, undefined, { ref: false });
      }
    }
  }

  #rotate(): void {
    if (this.#file === undefined || this.#fileBytes < this.#file.fileBytesMax) return;
    this.#fileBytes = 0;
    try {
      renameSync(this.#file.path, `${this.#file.path}.1`);
    } catch {
      // Somebody else moved it away, which is as good; or nothing can be renamed here: then the file goes on.
    }
    try {
      const old = this.#descriptor;
      this.#descriptor = openForAppend(this.#file.path);
      closeSync(old);
    } catch {
      // The open file keeps taking lines, under its new name.
    }
  }

  async #end(): Promise<void> {
    const timeout = new AbortController();
    await Promise.race([this.#pumping, sleep(closeTimeoutMs, undefined, { signal: timeout.signal })]);
    timeout.abort();
    // A write that hangs still owns the descriptor.
    if (this.#file !== undefined && this.#pumping === undefined) closeSync(this.#descriptor);
  }
}

function countLines(lines: string): number {
  return lines.split('\n').length - 1;
}
