import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { type Digest, digestFromHex } from '../base/digest.ts';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';
import type { JobControl } from './control.ts';
import { IdleBuffers } from './idle-buffers.ts';

/** One read of the layer file, bytes: about what inflates to one piece of tar. */
const READ_BYTES = 1024 * 1024;
/** Where one thread does all the work, bytes: what it reads is still in its cache when it is inflated. */
const READ_ALONE_BYTES = 512 * 1024;

const idle = new IdleBuffers(READ_BYTES, 2);

export interface LayerSourceOptions {
  readonly path: string;
  readonly sizeBytes: number;
  readonly control: JobControl;
  /** Whether to hash on the way; else `digest` reads the file once more. */
  readonly hashes: boolean;
}

/** Reads a layer file in order, never beyond the announced prefix. Two blocks exist, used in turn. */
export class LayerSource {
  readonly #fd: number;
  readonly #path: string;
  readonly #sizeBytes: number;
  readonly #control: JobControl;
  readonly #hashes: boolean;
  readonly #hash = createHash('sha256');
  readonly #blocks = [idle.take(), idle.take()];
  #turn = 0;
  #readBytes = 0;
  #ahead: Buffer | undefined;

  constructor({ path, sizeBytes, control, hashes }: LayerSourceOptions) {
    this.#path = path;
    this.#sizeBytes = sizeBytes;
    this.#control = control;
    this.#hashes = hashes;
    this.#fd = atFile(path, () => fs.openSync(path, 'r'));
  }

  /** The next block, or undefined at the end; blocks the thread until there is one. Valid until the next call but one. */
  next(): Buffer | undefined {
    if (this.#ahead === undefined) {
      if (this.#readBytes === this.#sizeBytes) return undefined;
      this.#control.waitBeyond(this.#readBytes);
      this.readAhead();
    }
    const block = this.#ahead;
    this.#ahead = undefined;
    return block;
  }

  /** Reads the block that `next` will return, if that needs no waiting. */
  readAhead(): void {
    const mayReadBytes = Math.min(this.#control.prefixBytes, this.#sizeBytes) - this.#readBytes;
    if (this.#ahead !== undefined || mayReadBytes <= 0) return;
    const block = this.#blocks[this.#turn] as Buffer;
    this.#turn = 1 - this.#turn;
    const wanted = Math.min(mayReadBytes, this.#control.hasSpareCore ? READ_BYTES : READ_ALONE_BYTES);
    const gotBytes = atFile(this.#path, () => fs.readSync(this.#fd, block, 0, wanted, this.#readBytes));
    if (gotBytes === 0) throw this.#wrongSize(this.#readBytes);
    this.#readBytes += gotBytes;
    this.#control.noteRead(this.#readBytes, this.#readBytes === this.#sizeBytes);
    this.#ahead = block.subarray(0, gotBytes);
    if (this.#hashes) this.#hash.update(this.#ahead);
  }

  /** To be called at the end. @throws SizeMismatch when the file goes on */
  checkSize(): void {
    const { size } = atFile(this.#path, () => fs.fstatSync(this.#fd));
    if (size !== this.#sizeBytes) throw this.#wrongSize(size);
  }

  /** The digest of all bytes. Call at the end. */
  digest(): Digest {
    if (!this.#hashes) this.#hashAll();
    return digestFromHex(this.#hash.digest('hex'));
  }

  close(): void {
    fs.closeSync(this.#fd);
  }

  /** Nobody uses the blocks any more, nor the source. */
  recycle(): void {
    for (const block of this.#blocks.splice(0)) idle.give(block);
  }

  #hashAll(): void {
    const block = this.#blocks[0] as Buffer;
    for (let at = 0; at < this.#sizeBytes; ) {
      const gotBytes = atFile(this.#path, () => fs.readSync(this.#fd, block, 0, block.length, at));
      if (gotBytes === 0) throw this.#wrongSize(at);
      this.#hash.update(block.subarray(0, gotBytes));
      at += gotBytes;
    }
  }

  #wrongSize(foundBytes: number): ShoalError {
    return new ShoalError(
      ErrorCode.SizeMismatch,
      `Cannot unpack layer: its file has ${foundBytes} bytes, ${this.#sizeBytes} wanted`,
      { facts: { foundBytes, wantedBytes: this.#sizeBytes } },
    );
  }
}

function atFile<Result>(path: string, call: () => Result): Result {
  try {
    return call();
  } catch (error) {
    const code = nodeErrorCode(error) ?? 'unknown error';
    throw new ShoalError(ErrorCode.UnpackFailed, `Cannot read layer file "${path}": ${code}`, {
      cause: error,
      facts: { path, errno: code },
    });
  }
}
