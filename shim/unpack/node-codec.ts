import * as zlib from 'node:zlib';
import { assert } from '../base/assert.ts';
import { ErrorCode, ShoalError } from '../base/errors.ts';

/** What one step did. */
export interface InflateStep {
  readonly consumedBytes: number;
  readonly producedBytes: number;
}

/** Same of a codec that tells where its stream is over. */
export interface DeflateStep extends InflateStep {
  /** The stream is over; what was not consumed stands behind it. */
  readonly isEnd: boolean;
  /** What stands behind it, too, and was taken for a part of it by earlier steps: at most 7 bytes. */
  readonly surplus?: Buffer;
}

/** Inflates deflate streams (RFC 1951), one after the other, into buffers of the caller. One step at a time. */
export interface DeflateCodec {
  /** On this thread. @throws UnpackInvalid */
  step(input: Buffer, output: Buffer): DeflateStep;
  /** On a thread of libuv's pool. @throws UnpackInvalid */
  stepInPool(input: Buffer, output: Buffer): Promise<DeflateStep>;
  /** Ready for another stream. */
  reset(): void;
  close(): void;
}

/** The parts of node:zlib's own handles that the streams above them use; Node's version is pinned by the lockfile. */
interface ZlibHandle {
  onerror: (message: string, errno: number, code: string) => void;
  init(...parameters: unknown[]): void;
  write(...parameters: [number, Buffer, number, number, Buffer, number, number]): void;
  writeSync(...parameters: [number, Buffer, number, number, Buffer, number, number]): void;
  reset(): void;
  close(): void;
}

type Format = 'deflate' | 'zstd';

const EMPTY = Buffer.alloc(0);
const DEFLATE_WINDOW_BITS = 15;
/** 128 MiB: the decoder's own default, and far above what image builders use. */
export const ZSTD_WINDOW_LOG_MAX = 27;

/** One decompressor of Node's, into buffers of the caller: on this thread or on one of libuv's pool. */
export class NodeCodec implements DeflateCodec {
  readonly #handle: ZlibHandle;
  /** Written by the handle: bytes left of the output, bytes left of the input. */
  readonly #left = new Uint32Array(2);
  #settle: (() => void) | undefined;
  #error: ShoalError | undefined;

  /** `deflate`: without any header (RFC 1951). */
  constructor(format: Format) {
    this.#handle = newHandle(format);
    this.#handle.onerror = (message) => {
      this.#error = invalidStream(message.toLowerCase());
      this.#settle?.();
    };
    const done = (): void => this.#settle?.();
    if (format === 'deflate') this.#handle.init(DEFLATE_WINDOW_BITS, 6, 8, 0, this.#left, done, undefined);
    else this.#handle.init(zstdParameters(), undefined, this.#left, done);
  }

  step(input: Buffer, output: Buffer): DeflateStep {
    this.#handle.writeSync(zlib.constants.Z_NO_FLUSH, input, 0, input.length, output, 0, output.length);
    return this.#result(input, output);
  }

  stepInPool(input: Buffer, output: Buffer): Promise<DeflateStep> {
    return new Promise((resolve, reject) => {
      this.#settle = () => {
        this.#settle = undefined;
        try {
          resolve(this.#result(input, output));
        } catch (error) {
          reject(error);
        }
      };
      this.#handle.write(zlib.constants.Z_NO_FLUSH, input, 0, input.length, output, 0, output.length);
    });
  }

  reset(): void {
    this.#handle.reset();
  }

  /** @throws UnpackInvalid when the stream is not at its end */
  finish(): void {
    const output = Buffer.allocUnsafe(1);
    this.#handle.writeSync(zlib.constants.Z_FINISH, EMPTY, 0, 0, output, 0, output.length);
    if (this.#error !== undefined) throw this.#error;
  }

  close(): void {
    this.#handle.close();
  }

  #result(input: Buffer, output: Buffer): DeflateStep {
    if (this.#error !== undefined) throw this.#error;
    const [outputLeft = 0, inputLeft = 0] = this.#left;
    return {
      consumedBytes: input.length - inputLeft,
      producedBytes: output.length - outputLeft,
      // Room for output and input untouched.
      isEnd: inputLeft > 0 && outputLeft > 0,
    };
  }
}

export function invalidStream(reason: string): ShoalError {
  return new ShoalError(ErrorCode.UnpackInvalid, `Cannot inflate layer: ${reason}`);
}

type HandleClass = new (mode: number) => ZlibHandle;
const handleClasses: Partial<Record<Format, HandleClass>> = {};

function newHandle(format: Format): ZlibHandle {
  const Handle = handleClasses[format] ?? handleClassOf(format);
  handleClasses[format] = Handle;
  const { INFLATERAW, ZSTD_DECOMPRESS } = zlib.constants as unknown as Record<string, number>;
  return new Handle((format === 'deflate' ? INFLATERAW : ZSTD_DECOMPRESS) ?? -1);
}

/** Only a stream knows the class of its handle. */
function handleClassOf(format: Format): HandleClass {
  const stream = format === 'deflate' ? zlib.createInflateRaw() : zlib.createZstdDecompress();
  const handle = (stream as unknown as { _handle: ZlibHandle })._handle;
  const isKnown = typeof handle.writeSync === 'function' && typeof handle.init === 'function';
  assert(isKnown, 'zlib has the handle we know');
  const Handle = handle.constructor as HandleClass;
  stream.close();
  return Handle;
}

function zstdParameters(): Uint32Array {
  const { ZSTD_d_windowLogMax: windowLogMax } = zlib.constants;
  const parameters = new Uint32Array(windowLogMax + 1).fill(0xffff_ffff);
  parameters[windowLogMax] = ZSTD_WINDOW_LOG_MAX;
  return parameters;
}
