import { ErrorCode, ShoalError } from '../base/errors.ts';

/** What a sender of malformed bytes is told about, and hung up for. */
export function protocolError(state: string): ShoalError {
  return new ShoalError(ErrorCode.PeerProtocol, `Cannot read from peer: ${state}`);
}

/** Longest string in a message, bytes: host names are at most 253, zones and node names are shorter. */
export const STRING_BYTES_MAX = 255;

/** Big-endian writer that grows; one message at a time. */
export class ByteWriter {
  #bytes = Buffer.allocUnsafe(512);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  u8(value: number): this {
    this.#room(1);
    this.#length = this.#bytes.writeUInt8(value, this.#length);
    return this;
  }

  u16(value: number): this {
    this.#room(2);
    this.#length = this.#bytes.writeUInt16BE(value, this.#length);
    return this;
  }

  u32(value: number): this {
    this.#room(4);
    this.#length = this.#bytes.writeUInt32BE(value, this.#length);
    return this;
  }

  u64(value: number): this {
    this.#room(8);
    this.#length = this.#bytes.writeBigUInt64BE(BigInt(value), this.#length);
    return this;
  }

  raw(bytes: Uint8Array): this {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
    return this;
  }

  /** One length byte, then UTF-8. Longer text is cut: names that long are nobody's. */
  string(text: string): this {
    const bytes = Buffer.from(text).subarray(0, STRING_BYTES_MAX);
    return this.u8(bytes.length).raw(bytes);
  }

  /** Overwrites four bytes that were written before. */
  patchU32(offset: number, value: number): void {
    this.#bytes.writeUInt32BE(value, offset);
  }

  finish(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  #room(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2));
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
  }
}

/** Big-endian reader over one whole payload. Every read past the end is the sender's fault. @throws PeerProtocol */
export class ByteReader {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get leftBytes(): number {
    return this.#bytes.length - this.#offset;
  }

  u8(): number {
    return this.#bytes.readUInt8(this.#advance(1));
  }

  u16(): number {
    return this.#bytes.readUInt16BE(this.#advance(2));
  }

  u32(): number {
    return this.#bytes.readUInt32BE(this.#advance(4));
  }

  /** At most `max`, which is a safe integer. */
  u64(max: number, what: string): number {
    const value = this.#bytes.readBigUInt64BE(this.#advance(8));
    if (value > BigInt(max)) throw protocolError(`${what} is above ${max}`);
    return Number(value);
  }

  /** An own copy: the payload's memory is used again. */
  raw(length: number): Uint8Array {
    const start = this.#advance(length);
    return Uint8Array.from(this.#bytes.subarray(start, start + length));
  }

  string(): string {
    const length = this.u8();
    const start = this.#advance(length);
    return this.#bytes.toString('utf8', start, start + length);
  }

  /** A count of items that take at least `itemBytes` each: checked against what is left before anything is made. */
  count(max: number, itemBytes: number, what: string): number {
    const count = this.u16();
    if (count > max) throw protocolError(`${count} ${what}, at most ${max} are allowed`);
    if (count * itemBytes > this.leftBytes)
      throw protocolError(`${count} ${what} do not fit into their frame`);
    return count;
  }

  end(): void {
    if (this.leftBytes > 0) throw protocolError(`${this.leftBytes} bytes follow the message`);
  }

  #advance(length: number): number {
    const start = this.#offset;
    if (length > this.leftBytes) throw protocolError('a message ends early');
    this.#offset += length;
    return start;
  }
}
