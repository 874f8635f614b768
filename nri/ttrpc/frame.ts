import { Code, TtrpcError } from './code.ts';

/** Length of data (4), stream id (4), type, flags; big endian. Source: the ttrpc protocol, "Message Header". */
export const HEADER_BYTES = 10;
/** Data of one frame. A longer one is discarded by who receives it and answered with `ResourceExhausted`. */
export const DATA_BYTES_MAX = 4 << 20;

export const FrameType = { Request: 1, Response: 2, Data: 3 } as const;

export const Flag = {
  /** The sender sends nothing more on this stream. */
  RemoteClosed: 1,
  /** On a request: the sender will stream. */
  RemoteOpen: 2,
  /** A data frame that is no message. */
  NoData: 4,
} as const;

export interface Frame {
  readonly streamId: number;
  /** One of `FrameType`; others are to be ignored. */
  readonly type: number;
  /** A set of `Flag`. */
  readonly flags: number;
  readonly data: Buffer;
}

/** What a decoder gives: a frame, or the remains of one whose data was too long to keep. */
export interface DecodedFrame extends Frame {
  /** Set when the data was longer than allowed: its length, bytes; `data` is empty then. */
  readonly discardedBytes?: number;
}

/** One frame's bytes. @throws TtrpcError `ResourceExhausted` when the data is longer than a frame may hold. */
export function encodeFrame({ streamId, type, flags, data }: Frame): Buffer {
  if (data.length > DATA_BYTES_MAX) throw tooLong(data.length);
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + data.length);
  bytes.writeUInt32BE(data.length, 0);
  bytes.writeUInt32BE(streamId, 4);
  bytes[8] = type;
  bytes[9] = flags;
  bytes.set(data, HEADER_BYTES);
  return bytes;
}

export function tooLong(lengthBytes: number): TtrpcError {
  return new TtrpcError(
    Code.ResourceExhausted,
    `message length ${lengthBytes} exceeds the maximum message size of ${DATA_BYTES_MAX}`,
  );
}

interface Header {
  readonly lengthBytes: number;
  readonly streamId: number;
  readonly type: number;
  readonly flags: number;
}

/**
 * Turns a byte stream into frames, however the stream was cut: feed what arrived, then collect what is complete.
 * Holds at most one unfinished frame; what is too long is not held at all.
 */
export class FrameDecoder {
  /** What is being filled: the header, then the data of the frame that it announced. */
  #target = Buffer.alloc(HEADER_BYTES);
  #filled = 0;
  #header: Header | undefined;
  /** Bytes of a frame that is too long and still to come. */
  #discard = 0;
  #ready: DecodedFrame[] = [];

  feed(chunk: Buffer): void {
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#discard > 0) rest = this.#skip(rest);
      else rest = this.#header === undefined ? this.#takeHeader(rest) : this.#takeData(rest, this.#header);
    }
  }

  /** The frames that were completed since the last call. */
  collect(): DecodedFrame[] {
    const ready = this.#ready;
    this.#ready = [];
    return ready;
  }

  #skip(bytes: Buffer): Buffer {
    const skipped = Math.min(this.#discard, bytes.length);
    this.#discard -= skipped;
    return bytes.subarray(skipped);
  }

  #takeHeader(bytes: Buffer): Buffer {
    const rest = this.#fill(bytes);
    if (this.#filled < HEADER_BYTES) return rest;
    this.#filled = 0;
    const header = readHeader(this.#target);
    if (header.lengthBytes === 0) this.#finish(header, Buffer.alloc(0));
    else if (header.lengthBytes > DATA_BYTES_MAX) this.#startDiscarding(header);
    else this.#header = header;
    return rest;
  }

  #takeData(bytes: Buffer, header: Header): Buffer {
    const { lengthBytes } = header;
    if (this.#filled === 0) {
      // Mostly all of it is there: then it is not copied.
      if (bytes.length >= lengthBytes) {
        this.#finish(header, bytes.subarray(0, lengthBytes));
        return bytes.subarray(lengthBytes);
      }
      this.#target = Buffer.allocUnsafe(lengthBytes);
    }
    const rest = this.#fill(bytes);
    if (this.#filled === lengthBytes) {
      this.#finish(header, this.#target);
      this.#target = Buffer.alloc(HEADER_BYTES);
    }
    return rest;
  }

  #fill(bytes: Buffer): Buffer {
    const copied = bytes.copy(this.#target, this.#filled);
    this.#filled += copied;
    return bytes.subarray(copied);
  }

  #finish({ streamId, type, flags }: Header, data: Buffer): void {
    this.#header = undefined;
    this.#filled = 0;
    this.#ready.push({ streamId, type, flags, data });
  }

  /** Told at once: the other side may want to know before it has sent everything. */
  #startDiscarding({ lengthBytes, ...frame }: Header): void {
    this.#discard = lengthBytes;
    this.#ready.push({ ...frame, data: Buffer.alloc(0), discardedBytes: lengthBytes });
  }
}

function readHeader(bytes: Buffer): Header {
  return {
    lengthBytes: bytes.readUInt32BE(0),
    streamId: bytes.readUInt32BE(4),
    type: bytes.readUInt8(8),
    flags: bytes.readUInt8(9),
  };
}
