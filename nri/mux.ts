import { ErrorCode, ShoalError } from '../shim/base/errors.ts';

/**
 * NRI's multiplexer: one unix connection carries several byte streams, cut into frames of connection id (4), payload
 * length (4, both big endian) and payload. There is no opening and closing.
 */
export const MUX_HEADER_BYTES = 8;

/** The Plugin service: the runtime calls us. */
export const PLUGIN_CONNECTION = 1;
/** The Runtime service: we call the runtime. */
export const RUNTIME_CONNECTION = 2;

/**
 * The runtime reads each frame into a buffer of this size, bytes. A longer frame ends the connection, unless it begins
 * just where the reader waits for the rest of a message.
 */
export const MUX_PAYLOAD_BYTES_MAX = 4096;
/** The runtime queues this many frames of a connection; more end all connections. Frames of larger messages are fewer. */
const MUX_QUEUE_FRAMES_MAX = 256;
/** No NRI version sends longer frames: who announces one does not speak the protocol. */
const MUX_RECEIVED_BYTES_MAX = 16 << 20;

/**
 * One whole ttrpc message as frames. It has to be one message, since only after the first piece of a message its reader
 * takes the rest at once.
 */
export function encodeMux(connectionId: number, message: Buffer): Buffer {
  const isLarge = message.length > MUX_PAYLOAD_BYTES_MAX * MUX_QUEUE_FRAMES_MAX;
  const pieces: Buffer[] = [];
  for (let offset = 0; offset < message.length; ) {
    const isRest = isLarge && offset > 0;
    const payload = message.subarray(offset, isRest ? undefined : offset + MUX_PAYLOAD_BYTES_MAX);
    pieces.push(header(connectionId, payload.length), payload);
    offset += payload.length;
  }
  return Buffer.concat(pieces);
}

/** Hands the payload of each frame on as it arrives: nothing is kept but an unfinished header. */
export class MuxDecoder {
  readonly #header = Buffer.alloc(MUX_HEADER_BYTES);
  #filled = 0;
  #connectionId = 0;
  #left = 0;

  /** @throws ShoalError `PeerProtocol` for a frame that no NRI would send. */
  feed(chunk: Buffer, visit: (connectionId: number, payload: Buffer) => void): void {
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#left === 0) rest = this.#takeHeader(rest);
      const payload = rest.subarray(0, this.#left);
      if (payload.length > 0) visit(this.#connectionId, payload);
      this.#left -= payload.length;
      rest = rest.subarray(payload.length);
    }
  }

  #takeHeader(bytes: Buffer): Buffer {
    const copied = bytes.copy(this.#header, this.#filled);
    this.#filled += copied;
    if (this.#filled < MUX_HEADER_BYTES) return bytes.subarray(copied);
    this.#filled = 0;
    this.#connectionId = this.#header.readUInt32BE(0);
    this.#left = this.#header.readUInt32BE(4);
    if (this.#left > MUX_RECEIVED_BYTES_MAX) throw tooLong(this.#left);
    return bytes.subarray(copied);
  }
}

function header(connectionId: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(MUX_HEADER_BYTES);
  bytes.writeUInt32BE(connectionId, 0);
  bytes.writeUInt32BE(lengthBytes, 4);
  return bytes;
}

function tooLong(lengthBytes: number): ShoalError {
  return new ShoalError(
    ErrorCode.PeerProtocol,
    `Cannot read from the NRI socket: found a frame of ${lengthBytes} bytes, wanted at most ${MUX_RECEIVED_BYTES_MAX}`,
  );
}
