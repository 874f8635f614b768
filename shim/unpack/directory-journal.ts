import { ErrorCode, ShoalError } from '../base/errors.ts';
import type { TarTime } from './tar-header.ts';

export interface DirectoryRecord {
  /** Byte string, as the tar names it, cleaned. */
  readonly path: string;
  readonly mode: number;
  readonly atime: TarTime;
  readonly mtime: TarTime;
}

/** Memory for directories whose times are still to be set: about a million of them. */
const JOURNAL_BYTES_MAX = 64 * 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;
/** Mode (2), both times (8 + 4 each), length of the path (2), bytes. */
const FIXED_BYTES = 28;

/** Remembers what every directory of a layer must look like once nothing more is written into it, packed outside the heap. */
export class DirectoryJournal {
  readonly #chunks: { bytes: Buffer; used: number }[] = [];
  #totalBytes = 0;

  /** @throws LimitExceeded */
  add(record: DirectoryRecord): void {
    const neededBytes = FIXED_BYTES + record.path.length;
    const { bytes, used } = this.#chunkFor(neededBytes);
    bytes.writeUInt16LE(record.mode, used);
    writeTime(bytes, used + 2, record.atime);
    writeTime(bytes, used + 14, record.mtime);
    bytes.writeUInt16LE(record.path.length, used + 26);
    bytes.write(record.path, used + FIXED_BYTES, 'latin1');
  }

  /** In the order of `add`. */
  *records(): Generator<DirectoryRecord> {
    for (const { bytes, used } of this.#chunks) {
      let at = 0;
      while (at < used) {
        const end = at + FIXED_BYTES + bytes.readUInt16LE(at + 26);
        yield {
          mode: bytes.readUInt16LE(at),
          atime: readTime(bytes, at + 2),
          mtime: readTime(bytes, at + 14),
          path: bytes.toString('latin1', at + FIXED_BYTES, end),
        };
        at = end;
      }
    }
  }

  /** The chunk with room for `neededBytes`, and where they start. */
  #chunkFor(neededBytes: number): { bytes: Buffer; used: number } {
    let chunk = this.#chunks.at(-1);
    if (chunk === undefined || chunk.used + neededBytes > chunk.bytes.length) {
      if (this.#totalBytes + CHUNK_BYTES > JOURNAL_BYTES_MAX)
        throw new ShoalError(
          ErrorCode.LimitExceeded,
          `Cannot unpack layer: its directories need more than ${JOURNAL_BYTES_MAX} bytes of memory`,
        );
      chunk = { bytes: Buffer.allocUnsafeSlow(CHUNK_BYTES), used: 0 };
      this.#chunks.push(chunk);
      this.#totalBytes += CHUNK_BYTES;
    }
    const used = chunk.used;
    chunk.used += neededBytes;
    return { bytes: chunk.bytes, used };
  }
}

function writeTime(bytes: Buffer, at: number, time: TarTime): void {
  bytes.writeDoubleLE(time.seconds, at);
  bytes.writeUInt32LE(time.nanoseconds, at + 8);
}

function readTime(bytes: Buffer, at: number): TarTime {
  return { seconds: bytes.readDoubleLE(at), nanoseconds: bytes.readUInt32LE(at + 8) };
}
