import { protocolError } from './byte-codec.ts';
import {
  CHUNK_HEAD_BYTES,
  CHUNK_PAYLOAD_BYTES_MAX,
  CONTROL_BYTES_MAX,
  FRAME_HEAD_BYTES,
  FrameType,
  HELLO_BYTES_MAX,
} from './frame.ts';

/** Where the bytes of one arriving chunk go. */
export interface ChunkTarget {
  /** As long as the chunk. */
  readonly buffer: Buffer;
  /** The next `count` bytes of the buffer have been filled. */
  filled(count: number): void;
  /** All bytes are there. The buffer is the target's from now on. */
  done(): void;
  /** The connection ended before all bytes were there. */
  broken(): void;
}

export interface FrameHandler {
  /** The payload is only valid during the call. @throws PeerProtocol to end the connection. */
  onControl(type: number, payload: Buffer): void;
  /** A chunk begins; without a target its bytes are read and thrown away. @throws PeerProtocol to end the connection. */
  onChunk(requestId: number, chunk: number, lengthBytes: number): ChunkTarget | undefined;
}

/** Reads go here when no chunk is arriving. Small, so that few bytes of a chunk have to be copied out of it. */
const SCRATCH_BYTES = 16 * 1024;
const HEAD_BYTES_MAX = FRAME_HEAD_BYTES + CHUNK_HEAD_BYTES;

/**
 * Feed/collect decoder of one connection. `nextBuffer` says where the next read should go: while a chunk arrives that
 * is the chunk's own buffer, so its bytes are not copied. Bytes from elsewhere may be fed too; they are copied.
 */
export class FrameReader {
  readonly #handler: FrameHandler;
  readonly #scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
  readonly #head = Buffer.allocUnsafe(HEAD_BYTES_MAX);
  #headBytes = 0;
  #control: Buffer | undefined;
  #controlType = 0;
  #controlBytes = 0;
  #target: ChunkTarget | undefined;
  #targetBytes = 0;
  /** Bytes of a chunk that nobody wants, still to come. */
  #discardBytes = 0;
  #greeted = false;

  constructor(handler: FrameHandler) {
    this.#handler = handler;
  }

  /** The target that is being filled; a connection that ends now has broken it off. */
  get openTarget(): ChunkTarget | undefined {
    return this.#target;
  }

  /** Bytes of that target which have not come yet. */
  get openTargetLeftBytes(): number {
    return this.#target === undefined ? 0 : this.#target.buffer.length - this.#targetBytes;
  }

  nextBuffer(): Buffer {
    if (this.#target !== undefined) return this.#target.buffer.subarray(this.#targetBytes);
    return this.#scratch;
  }

  /** Takes bytes that were read into the last `nextBuffer()`, or anywhere else. @throws PeerProtocol */
  feed(bytes: Buffer): void {
    const target = this.#target;
    if (target !== undefined && isPlacedAt(bytes, target.buffer, this.#targetBytes)) {
      this.#advanceTarget(target, bytes.length);
      return;
    }
    let rest = bytes;
    while (rest.length > 0) rest = this.#step(rest);
  }

  #step(bytes: Buffer): Buffer {
    if (this.#target !== undefined) return this.#copyToTarget(this.#target, bytes);
    if (this.#discardBytes > 0) {
      const count = Math.min(this.#discardBytes, bytes.length);
      this.#discardBytes -= count;
      return bytes.subarray(count);
    }
    if (this.#control !== undefined) return this.#collectControl(this.#control, bytes);
    return this.#collectHead(bytes);
  }

  #collectHead(bytes: Buffer): Buffer {
    const isChunk = this.#headBytes >= FRAME_HEAD_BYTES;
    const wanted = (isChunk ? HEAD_BYTES_MAX : FRAME_HEAD_BYTES) - this.#headBytes;
    const count = Math.min(wanted, bytes.length);
    bytes.copy(this.#head, this.#headBytes, 0, count);
    this.#headBytes += count;
    const rest = bytes.subarray(count);
    if (count < wanted) return rest;
    if (isChunk) this.#beginChunk();
    else this.#beginFrame();
    return rest;
  }

  #beginFrame(): void {
    const length = this.#head.readUInt32BE(0);
    const type = this.#head.readUInt8(4);
    if (!this.#greeted && type !== FrameType.hello) throw protocolError('it does not begin with a hello');
    if (type === FrameType.chunk) {
      if (length <= CHUNK_HEAD_BYTES || length > CHUNK_PAYLOAD_BYTES_MAX)
        throw protocolError(
          `a chunk frame of ${length} bytes, at most ${CHUNK_PAYLOAD_BYTES_MAX} are allowed`,
        );
      return;
    }
    const max = type === FrameType.hello ? HELLO_BYTES_MAX : CONTROL_BYTES_MAX;
    if (length > max) throw protocolError(`a frame of ${length} bytes, at most ${max} are allowed`);
    this.#greeted = true;
    this.#headBytes = 0;
    this.#controlType = type;
    this.#controlBytes = 0;
    this.#control = Buffer.allocUnsafe(length);
    if (length === 0) this.#endControl(this.#control);
  }

  #beginChunk(): void {
    const lengthBytes = this.#head.readUInt32BE(0) - CHUNK_HEAD_BYTES;
    this.#headBytes = 0;
    this.#targetBytes = 0;
    const requestId = this.#head.readUInt32BE(5);
    this.#target = this.#handler.onChunk(requestId, this.#head.readUInt32BE(9), lengthBytes);
    if (this.#target === undefined) this.#discardBytes = lengthBytes;
  }

  #collectControl(control: Buffer, bytes: Buffer): Buffer {
    const count = Math.min(control.length - this.#controlBytes, bytes.length);
    bytes.copy(control, this.#controlBytes, 0, count);
    this.#controlBytes += count;
    if (this.#controlBytes === control.length) this.#endControl(control);
    return bytes.subarray(count);
  }

  #endControl(control: Buffer): void {
    this.#control = undefined;
    this.#handler.onControl(this.#controlType, control);
  }

  #copyToTarget(target: ChunkTarget, bytes: Buffer): Buffer {
    const count = Math.min(target.buffer.length - this.#targetBytes, bytes.length);
    bytes.copy(target.buffer, this.#targetBytes, 0, count);
    this.#advanceTarget(target, count);
    return bytes.subarray(count);
  }

  #advanceTarget(target: ChunkTarget, count: number): void {
    this.#targetBytes += count;
    target.filled(count);
    if (this.#targetBytes < target.buffer.length) return;
    this.#target = undefined;
    target.done();
  }
}

function isPlacedAt(bytes: Buffer, buffer: Buffer, offset: number): boolean {
  return bytes.buffer === buffer.buffer && bytes.byteOffset === buffer.byteOffset + offset;
}
