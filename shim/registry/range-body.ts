import { Readable } from 'node:stream';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import { mapHttpError } from './http-error.ts';
import type { HttpResponse } from './transport.ts';

export interface RangeBodyOptions {
  /** Dropped from the front: what precedes the range when the registry sent the whole blob. */
  readonly skipBytes: number;
  readonly lengthBytes: number;
  /** Nothing may follow the range: false when the registry sent the whole blob. */
  readonly endsWithRange: boolean;
  readonly doing: string;
  readonly signal: AbortSignal;
}

/**
 * Exactly the bytes of one range out of a response body, or an error. Chunks are passed on without copying; the body is
 * read no faster than this is, and its connection is dropped when this is destroyed early.
 */
export class RangeBody extends Readable {
  readonly #source: Readable;
  readonly #options: RangeBodyOptions;
  #skipBytes: number;
  #wantedBytes: number;
  /** Ended, failed or destroyed: what the source still does concerns nobody. */
  #isDone = false;

  constructor(response: HttpResponse, options: RangeBodyOptions) {
    super({ highWaterMark: 0 });
    this.#source = response.body;
    this.#options = options;
    this.#skipBytes = options.skipBytes;
    this.#wantedBytes = options.lengthBytes;
    const { doing, signal } = options;
    this.#source.on('data', (chunk: Uint8Array) => this.#take(chunk));
    this.#source.on('error', (error) => this.#fail(mapHttpError(error, doing, response.host, signal)));
    this.#source.once('end', () => this.#sourceEnded(response.host));
    this.#source.once('close', () => this.#sourceEnded(response.host));
    this.#source.pause();
  }

  override _read(): void {
    if (!this.#isDone) this.#source.resume();
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#isDone = true;
    if (!this.#source.readableEnded) this.#source.destroy();
    callback(error);
  }

  #take(chunk: Uint8Array): void {
    const skipped = Math.min(this.#skipBytes, chunk.length);
    this.#skipBytes -= skipped;
    const rest = chunk.subarray(skipped, skipped + this.#wantedBytes);
    const isSurplus = chunk.length - skipped > rest.length;
    if (isSurplus && this.#options.endsWithRange)
      this.#fail(this.#error(ErrorCode.SizeMismatch, 'more bytes came than the range has'));
    if (this.#isDone || rest.length === 0) return;
    this.#wantedBytes -= rest.length;
    if (!this.push(rest)) this.#source.pause();
    if (this.#wantedBytes === 0 && !this.#options.endsWithRange) this.#finish();
  }

  #sourceEnded(host: string): void {
    if (this.#isDone) return;
    if (this.#wantedBytes === 0) this.#finish();
    else {
      const found = `${host} ended its answer ${this.#wantedBytes} bytes early`;
      this.#fail(this.#error(ErrorCode.RegistryUnavailable, found, true));
    }
  }

  /** What may follow in the body is not wanted: reading it would cost more than a new connection. */
  #finish(): void {
    this.#isDone = true;
    this.push(null);
    if (!this.#source.readableEnded) this.#source.destroy();
  }

  #fail(error: ShoalError): void {
    if (this.#isDone) return;
    this.#isDone = true;
    this.destroy(error);
  }

  #error(code: ErrorCode, found: string, retriable = false): ShoalError {
    return new ShoalError(code, `Cannot ${this.#options.doing}: ${found}`, { retriable });
  }
}
