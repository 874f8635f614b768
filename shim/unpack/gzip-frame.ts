import type { ShoalError } from '../base/errors.ts';
import { invalidStream } from './node-codec.ts';

/** What a member may carry besides its data, bytes: file name and comment are without a bound of their own in the format. */
const HEADER_BYTES_MAX = 64 * 1024 + 2048;
const ID1 = 0x1f;
const ID2 = 0x8b;
const DEFLATE = 8;
const HAS_HEADER_CRC = 2;
const HAS_EXTRA = 4;
const HAS_NAME = 8;
const HAS_COMMENT = 16;
const WORD = 2 ** 32;

type Part = 'header' | 'body' | 'trailer' | 'between' | 'padding';

/**
 * What stands around the deflate streams of a gzip file (RFC 1952): headers, trailers, further members, zeros behind the last.
 * The CRC-32 of a trailer is not compared: every byte that comes out is hashed with SHA-256, and the sum would cost
 * a seventh of inflating.
 */
export class GzipFrame {
  #part: Part = 'header';
  #header = readHeader();
  #trailer = readTrailer();
  #memberBytes = 0;

  constructor() {
    this.#header.next();
  }

  /** Whether deflated bytes come next. */
  get inBody(): boolean {
    return this.#part === 'body';
  }

  /** Whether the file may end here. */
  get isWhole(): boolean {
    return this.#part === 'between' || this.#part === 'padding';
  }

  /** Reads up to the next deflated byte, and gives how many bytes that were. Call it while not in a body. @throws UnpackInvalid */
  read(input: Uint8Array): number {
    let at = 0;
    while (at < input.length && !this.inBody) {
      if (this.#part === 'padding') {
        requireZeros(input.subarray(at));
        return input.length;
      }
      this.#take(input[at] as number);
      at += 1;
    }
    return at;
  }

  /** So many inflated bytes came out of the body. */
  inflated(bytes: number): void {
    this.#memberBytes = (this.#memberBytes + bytes) % WORD;
  }

  /** The deflate stream has come to its end. */
  endBody(): void {
    this.#part = 'trailer';
    this.#trailer = readTrailer();
    this.#trailer.next();
  }

  #take(byte: number): void {
    if (this.#part === 'between') this.#begin(byte);
    if (this.#part === 'header') {
      if (this.#header.next(byte).done) this.#part = 'body';
    } else if (this.#part === 'trailer') {
      const { done, value } = this.#trailer.next(byte);
      if (done) this.#endMember(value);
    }
  }

  /** Zeros may follow the last member, as gzip(1) allows; anything else is another member. */
  #begin(byte: number): void {
    this.#part = byte === 0 ? 'padding' : 'header';
    this.#header = readHeader();
    this.#header.next();
    this.#memberBytes = 0;
  }

  #endMember(sizeBytes: number): void {
    if (sizeBytes !== this.#memberBytes)
      throw invalidStream('a member has not the length that it says at its end');
    this.#part = 'between';
  }
}

/** Takes a header byte by byte, and returns behind its last one. */
function* readHeader(): Generator<undefined, void, number> {
  if ((yield) !== ID1 || (yield) !== ID2) throw notAMember();
  if ((yield) !== DEFLATE) throw invalidStream('unknown compression method');
  const flags = yield;
  for (let skipped = 0; skipped < 6; skipped += 1) yield;
  let left = HEADER_BYTES_MAX;
  if (flags & HAS_EXTRA) {
    const extraBytes = (yield) + (yield) * 256;
    for (let skipped = 0; skipped < extraBytes; skipped += 1) yield;
    left -= extraBytes;
  }
  for (const flag of [HAS_NAME, HAS_COMMENT])
    while (flags & flag && (yield) !== 0) {
      left -= 1;
      if (left <= 0) throw invalidStream('a header without end');
    }
  if (flags & HAS_HEADER_CRC) {
    yield;
    yield;
  }
}

/** Takes CRC-32 and length, and returns the length modulo 2^32. */
function* readTrailer(): Generator<undefined, number, number> {
  for (let skipped = 0; skipped < 4; skipped += 1) yield;
  return ((yield) | ((yield) << 8) | ((yield) << 16) | ((yield) << 24)) >>> 0;
}

/** @throws UnpackInvalid */
export function requireZeros(padding: Uint8Array): void {
  if (padding.some((byte) => byte !== 0)) throw notAMember();
}

function notAMember(): ShoalError {
  return invalidStream('bytes that are no member follow the last one');
}
