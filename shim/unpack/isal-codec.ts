import { createRequire } from 'node:module';
import { deflateRawSync } from 'node:zlib';
import { assert } from '../base/assert.ts';
import { ErrorCode, isShoalError } from '../base/errors.ts';
import { type DeflateCodec, type DeflateStep, invalidStream } from './node-codec.ts';

/** Where the dynamic linker looks for it: Debian's package libisal2, others' isa-l. The number is that of the layout below. */
export const ISAL_LIBRARY = 'libisal.so.2';

/** Of `struct inflate_state` (igzip_lib.h), which callers allocate: 87 KiB, and room that nobody uses. */
const STATE_BYTES = 128 * 1024;
/** Places in it. */
const NEXT_OUT = 0;
const AVAIL_OUT = 8;
const NEXT_IN = 16;
const AVAIL_IN = 32;
/** Bits taken ahead. */
const READ_IN_LENGTH = 36;
const BLOCK_STATE = 21_160;
/** ISAL_BLOCK_FINISH: all of the stream has been read and given. */
const FINISHED = 5;
/** Bytes taken ahead, at most. */
const AHEAD_BYTES_MAX = 8;

const EMPTY = Buffer.alloc(0);
const REASONS = new Map([
  [-1, 'invalid block'],
  [-2, 'invalid symbol'],
  [-3, 'invalid distance too far back'],
]);

interface Isal {
  readonly init: (state: Buffer) => void;
  readonly inflate: (state: Buffer) => number;
  readonly inflateInPool: (state: Buffer, done: (error: Error | null, result: number) => void) => void;
  readonly addressOf: (bytes: Buffer) => bigint;
}

const loaded = new Map<string, Isal | null>();

/** Whether ISA-L is on this node, and inflates as we know it. */
export function hasIsal(library = ISAL_LIBRARY): boolean {
  return isalAt(library) !== null;
}

/** One decompressor of ISA-L's, into buffers of the caller: on this thread or on one of libuv's pool. */
export class IsalCodec implements DeflateCodec {
  readonly #isal: Isal;
  readonly #state = Buffer.alloc(STATE_BYTES);
  /** The last bytes of the stream that were taken. */
  #tail = EMPTY;

  /** Without any header (RFC 1951). Only where `hasIsal` says so. */
  constructor(library = ISAL_LIBRARY) {
    const isal = isalAt(library);
    assert(isal !== null, `there is no ${library}, which hasIsal would have told`);
    this.#isal = isal;
    this.reset();
  }

  step(input: Buffer, output: Buffer): DeflateStep {
    this.#offer(input, output);
    return this.#result(this.#isal.inflate(this.#state), input, output);
  }

  stepInPool(input: Buffer, output: Buffer): Promise<DeflateStep> {
    this.#offer(input, output);
    return new Promise((resolve, reject) => {
      this.#isal.inflateInPool(this.#state, (error, result) => {
        try {
          if (error !== null) throw error;
          resolve(this.#result(result, input, output));
        } catch (cause) {
          reject(cause);
        }
      });
    });
  }

  reset(): void {
    this.#tail = EMPTY;
    this.#isal.init(this.#state);
  }

  close(): void {}

  /** The library gets addresses; `input` and `output` are held by the caller until the step is done. */
  #offer(input: Buffer, output: Buffer): void {
    const state = this.#state;
    state.writeBigUInt64LE(this.#isal.addressOf(output), NEXT_OUT);
    state.writeUInt32LE(output.length, AVAIL_OUT);
    state.writeBigUInt64LE(this.#isal.addressOf(input), NEXT_IN);
    state.writeUInt32LE(input.length, AVAIL_IN);
  }

  #result(code: number, input: Buffer, output: Buffer): DeflateStep {
    if (code < 0) throw invalidStream(REASONS.get(code) ?? `ISA-L says ${code}`);
    const state = this.#state;
    const producedBytes = output.length - state.readUInt32LE(AVAIL_OUT);
    const takenBytes = input.length - state.readUInt32LE(AVAIL_IN);
    if (state.readUInt32LE(BLOCK_STATE) === FINISHED) return this.#end(takenBytes, producedBytes);
    const taken = input.subarray(Math.max(0, takenBytes - AHEAD_BYTES_MAX), takenBytes);
    this.#tail = Buffer.concat([this.#tail, taken]).subarray(-AHEAD_BYTES_MAX);
    return { consumedBytes: takenBytes, producedBytes, isEnd: false };
  }

  /** It takes bytes ahead. Versions before 2.32 keep what of them was not the stream's, later ones give it back, even if earlier steps took it. */
  #end(takenBytes: number, producedBytes: number): DeflateStep {
    const consumedBytes = takenBytes - (this.#state.readInt32LE(READ_IN_LENGTH) >> 3);
    if (consumedBytes >= 0) return { consumedBytes, producedBytes, isEnd: true };
    return { consumedBytes: 0, producedBytes, isEnd: true, surplus: this.#tail.subarray(consumedBytes) };
  }
}

function isalAt(library: string): Isal | null {
  const known = loaded.get(library);
  if (known !== undefined) return known;
  const isal = load(library);
  loaded.set(library, isal);
  if (isal !== null && !inflatesRightly(library)) loaded.set(library, null);
  return loaded.get(library) ?? null;
}

function load(library: string): Isal | null {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  try {
    const functions = koffi.load(library);
    const inflate = functions.func('int isal_inflate(void *state)');
    return {
      init: functions.func('void isal_inflate_init(void *state)'),
      inflate,
      inflateInPool: inflate.async,
      addressOf: koffi.address,
    };
  } catch {
    // Most nodes have none.
    return null;
  }
}

/** A layout other than ours would show in what a stream of two steps gives, and where it is said to end. */
function inflatesRightly(library: string): boolean {
  const wanted = Buffer.from('a layer of which parts repeat, parts repeat; '.repeat(50));
  const input = Buffer.concat([deflateRawSync(wanted), Buffer.from('trailer')]);
  const output = Buffer.alloc(wanted.length);
  try {
    const codec = new IsalCodec(library);
    const first = codec.step(input.subarray(0, 20), output.subarray(0, 100));
    const rest = codec.step(input.subarray(first.consumedBytes), output.subarray(first.producedBytes));
    const isAll = first.producedBytes + rest.producedBytes === wanted.length && output.equals(wanted);
    const restBytes = input.length - first.consumedBytes - rest.consumedBytes;
    return isAll && !first.isEnd && rest.isEnd && restBytes === 'trailer'.length;
  } catch (error) {
    if (isShoalError(error, ErrorCode.UnpackInvalid)) return false;
    throw error;
  }
}
