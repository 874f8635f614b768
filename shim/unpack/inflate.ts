import { createRequire } from 'node:module';
import { GzipFrame, requireZeros } from './gzip-frame.ts';
import { hasIsal, IsalCodec } from './isal-codec.ts';
import {
  type DeflateCodec,
  type DeflateStep,
  type InflateStep,
  invalidStream,
  NodeCodec,
  ZSTD_WINDOW_LOG_MAX,
} from './node-codec.ts';

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

export type ZstdBackend = 'zstd-napi' | 'node';
export type GzipBackend = 'isal' | 'node';

/** @param codec What inflates; by default that of `gzipBackend`. */
export function createGzipInflater(codec?: DeflateCodec): Inflater {
  return new GzipInflater(codec ?? (hasIsal() ? new IsalCodec() : new NodeCodec('deflate')));
}

/** `isal` where the library is on the node: a fifth less processor time for inflating. */
export function gzipBackend(): GzipBackend {
  return hasIsal() ? 'isal' : 'node';
}

/** @throws Unsupported when `zstd-napi` is asked for and not installed */
export function createZstdInflater(backend: ZstdBackend = zstdBackend()): Inflater {
  return backend === 'node' ? new NodeZstdInflater() : new ZstdNapiInflater(loadZstdNapi());
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

/** Members of a gzip file, one after the other; only what is deflated goes to the codec. */
class GzipInflater implements Inflater {
  readonly #frame = new GzipFrame();
  readonly #codec: DeflateCodec;
  #skipped: InflateStep = { consumedBytes: 0, producedBytes: 0 };

  constructor(codec: DeflateCodec) {
    this.#codec = codec;
  }

  step(input: Buffer, output: Buffer): InflateStep {
    const body = this.#bodyOf(input);
    if (body === undefined) return this.#skipped;
    return this.#stepOver(input, body, this.#codec.step(body, output));
  }

  stepInPool(input: Buffer, output: Buffer): Promise<InflateStep> | InflateStep {
    const body = this.#bodyOf(input);
    if (body === undefined) return this.#skipped;
    return this.#codec.stepInPool(body, output).then((step) => this.#stepOver(input, body, step));
  }

  finish(): void {
    if (!this.#frame.isWhole) throw invalidStream('unexpected end of file');
  }

  close(): void {
    this.#codec.close();
  }

  /** What of the input is deflated, or undefined when all of it stood around. */
  #bodyOf(input: Buffer): Buffer | undefined {
    if (this.#frame.inBody) return input;
    const skippedBytes = this.#frame.read(input);
    if (this.#frame.inBody && skippedBytes < input.length) return input.subarray(skippedBytes);
    this.#skipped = { consumedBytes: skippedBytes, producedBytes: 0 };
    return undefined;
  }

  #stepOver(input: Buffer, body: Buffer, step: DeflateStep): InflateStep {
    this.#frame.inflated(step.producedBytes);
    if (step.isEnd) {
      this.#frame.endBody();
      // Fewer than the trailer has, so that all of them are its.
      if (step.surplus !== undefined) this.#frame.read(step.surplus);
      this.#codec.reset();
    }
    const consumedBytes = input.length - body.length + step.consumedBytes;
    return { consumedBytes, producedBytes: step.producedBytes };
  }
}

/** The codec goes from frame to frame by itself. */
class NodeZstdInflater implements Inflater {
  readonly #codec = new NodeCodec('zstd');
  #isOver = false;

  step(input: Buffer, output: Buffer): InflateStep {
    return this.#isOver ? trailerStep(input) : this.#checked(input, this.#codec.step(input, output));
  }

  stepInPool(input: Buffer, output: Buffer): Promise<InflateStep> | InflateStep {
    if (this.#isOver) return trailerStep(input);
    return this.#codec.stepInPool(input, output).then((step) => this.#checked(input, step));
  }

  finish(): void {
    if (!this.#isOver) this.#codec.finish();
  }

  close(): void {
    this.#codec.close();
  }

  #checked(input: Buffer, step: DeflateStep): InflateStep {
    if (!step.isEnd) return step;
    this.#isOver = true;
    trailerStep(input.subarray(step.consumedBytes));
    return { consumedBytes: input.length, producedBytes: step.producedBytes };
  }
}

/** Zeros may follow the last frame; anything else is refused. */
function trailerStep(input: Buffer): InflateStep {
  requireZeros(input);
  return { consumedBytes: input.length, producedBytes: 0 };
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
      throw invalidStream(
        error instanceof Error ? error.message.toLowerCase() : 'the zstd stream is malformed',
      );
    }
  }

  stepInPool(input: Buffer, output: Buffer): InflateStep {
    return this.step(input, output);
  }

  finish(): void {
    if (this.#hint !== 0) throw invalidStream('unexpected end of file');
  }

  close(): void {}
}
