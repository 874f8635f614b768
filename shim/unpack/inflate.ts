import { createRequire } from 'node:module';
import * as zlib from 'node:zlib';
import { assert } from '../base/assert.ts';
import { ErrorCode, ShoalError } from '../base/errors.ts';

/** What one step did. */
export interface InflateStep {
  readonly consumedBytes: number;
  readonly producedBytes: number;
}

/**
 * Inflates into buffers of the caller. A step takes any input and fills at most `output`; when it fills it whole, more
 * may follow without input. After the stream's end nothing is consumed.
 */
export interface Inflater {
  /** On this thread. @throws UnpackInvalid */
  step(input: Buffer, output: Buffer): InflateStep;
  /** On a thread of libuv's pool, where the codec can; else as `step`. One at a time. @throws UnpackInvalid */
  stepInPool(input: Buffer, output: Buffer): Promise<InflateStep> | InflateStep;
  /** Whether the input seen so far is complete. @throws UnpackInvalid when it is cut off */
  finish(): void;
  close(): void;
}

/** The parts of node:zlib's own handles that the streams above them use; Node's version is pinned by the lockfile. */
interface ZlibHandle {
  onerror: (message: string, errno: number, code: string) => void;
  init(...parameters: unknown[]): void;
  write(...parameters: [number, Buffer, number, number, Buffer, number, number]): void;
  writeSync(...parameters: [number, Buffer, number, number, Buffer, number, number]): void;
  close(): void;
}

const EMPTY = Buffer.alloc(0);
const GZIP_WINDOW_BITS = 15;
/** 128 MiB: the decoder's own default, and far above what image builders use. */
const ZSTD_WINDOW_LOG_MAX = 27;

export type ZstdBackend = 'zstd-napi' | 'node';

export function createGzipInflater(): Inflater {
  return new ZlibInflater('gzip');
}

/** @throws Unsupported when `zstd-napi` is asked for and not installed */
export function createZstdInflater(backend: ZstdBackend = zstdBackend()): Inflater {
  return backend === 'node' ? new ZlibInflater('zstd') : new ZstdNapiInflater(loadZstdNapi());
}

/** Plain tar: copies, so that the caller's loop is the same. */
export function createPlainInflater(): Inflater {
  const step = (input: Buffer, output: Buffer): InflateStep => {
    const copied = input.copy(output);
    return { consumedBytes: copied, producedBytes: copied };
  };
  return { step, stepInPool: step, finish: () => {}, close: () => {} };
}

let chosenBackend: ZstdBackend | undefined;

/** `node` where zstd-napi, an optional package with native code, was not built. */
export function zstdBackend(): ZstdBackend {
  if (chosenBackend === undefined) {
    try {
      loadZstdNapi();
      chosenBackend = 'zstd-napi';
    } catch {
      chosenBackend = 'node';
    }
  }
  return chosenBackend;
}

function invalid(reason: string): ShoalError {
  return new ShoalError(ErrorCode.UnpackInvalid, `Cannot inflate layer: ${reason}`);
}

class ZlibInflater implements Inflater {
  readonly #handle: ZlibHandle;
  /** Written by the handle: bytes left of the output, bytes left of the input. */
  readonly #left = new Uint32Array(2);
  #settle: (() => void) | undefined;
  #error: ShoalError | undefined;
  #isTrailer = false;

  constructor(format: 'gzip' | 'zstd') {
    this.#handle = newHandle(format);
    this.#handle.onerror = (message) => {
      this.#error = invalid(message.toLowerCase());
      this.#settle?.();
    };
    const done = (): void => this.#settle?.();
    if (format === 'gzip') this.#handle.init(GZIP_WINDOW_BITS, 6, 8, 0, this.#left, done, undefined);
    else this.#handle.init(zstdParameters(), undefined, this.#left, done);
  }

  step(input: Buffer, output: Buffer): InflateStep {
    if (this.#isTrailer) return trailerStep(input);
    this.#handle.writeSync(zlib.constants.Z_NO_FLUSH, input, 0, input.length, output, 0, output.length);
    return this.#result(input, output);
  }

  stepInPool(input: Buffer, output: Buffer): Promise<InflateStep> | InflateStep {
    if (this.#isTrailer) return trailerStep(input);
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

  finish(): void {
    if (this.#isTrailer) return;
    const output = Buffer.allocUnsafe(1);
    this.#handle.writeSync(zlib.constants.Z_FINISH, EMPTY, 0, 0, output, 0, output.length);
    if (this.#error !== undefined) throw this.#error;
  }

  close(): void {
    this.#handle.close();
  }

  #result(input: Buffer, output: Buffer): InflateStep {
    if (this.#error !== undefined) throw this.#error;
    const [outputLeft = 0, inputLeft = 0] = this.#left;
    const consumedBytes = input.length - inputLeft;
    // Room for output and input untouched: the last member is over and no other follows.
    if (inputLeft > 0 && outputLeft > 0) {
      this.#isTrailer = true;
      trailerStep(input.subarray(consumedBytes));
      return { consumedBytes: input.length, producedBytes: output.length - outputLeft };
    }
    return { consumedBytes, producedBytes: output.length - outputLeft };
  }
}

/** Zeros may follow the last member, as gzip(1) allows; anything else is refused. */
function trailerStep(input: Buffer): InflateStep {
  if (input.some((byte) => byte !== 0)) throw invalid('bytes that are no member follow the last one');
  return { consumedBytes: input.length, producedBytes: 0 };
}

type HandleClass = new (mode: number) => ZlibHandle;
const handleClasses: { gzip?: HandleClass; zstd?: HandleClass } = {};

function newHandle(format: 'gzip' | 'zstd'): ZlibHandle {
  const Handle = handleClasses[format] ?? handleClassOf(format);
  handleClasses[format] = Handle;
  const { GUNZIP, ZSTD_DECOMPRESS } = zlib.constants as unknown as Record<string, number>;
  return new Handle((format === 'gzip' ? GUNZIP : ZSTD_DECOMPRESS) ?? -1);
}

/** Only a stream knows the class of its handle. */
function handleClassOf(format: 'gzip' | 'zstd'): HandleClass {
  const stream = format === 'gzip' ? zlib.createGunzip() : zlib.createZstdDecompress();
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

interface ZstdNapi {
  DCtx: new () => {
    decompressStream(
      output: Uint8Array,
      input: Uint8Array,
    ): [hint: number, produced: number, consumed: number];
    setParameter(parameter: number, value: number): void;
  };
  DParameter: { windowLogMax: number };
}

function loadZstdNapi(): ZstdNapi {
  return createRequire(import.meta.url)('zstd-napi/binding') as ZstdNapi;
}

class ZstdNapiInflater implements Inflater {
  readonly #context: InstanceType<ZstdNapi['DCtx']>;
  /** 0 when a frame has just ended. */
  #hint = 0;

  constructor(binding: ZstdNapi) {
    this.#context = new binding.DCtx();
    this.#context.setParameter(binding.DParameter.windowLogMax, ZSTD_WINDOW_LOG_MAX);
  }

  step(input: Buffer, output: Buffer): InflateStep {
    try {
      const [hint, producedBytes, consumedBytes] = this.#context.decompressStream(output, input);
      if (consumedBytes > 0 || producedBytes > 0) this.#hint = hint;
      return { consumedBytes, producedBytes };
    } catch (error) {
      throw invalid(error instanceof Error ? error.message.toLowerCase() : 'the zstd stream is malformed');
    }
  }

  stepInPool(input: Buffer, output: Buffer): InflateStep {
    return this.step(input, output);
  }

  finish(): void {
    if (this.#hint !== 0) throw invalid('unexpected end of file');
  }

  close(): void {}
}
