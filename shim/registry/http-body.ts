import type { Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import { mapHttpError } from './http-error.ts';
import { ERROR_BODY_BYTES_MAX } from './limits.ts';
import type { HttpResponse } from './transport.ts';

export interface ReadBodyOptions {
  readonly bytesMax: number;
  /** For messages: `read manifest "v1" of "host/repository"`. */
  readonly doing: string;
  readonly signal: AbortSignal;
}

/** Reads a whole body into memory. @throws LimitExceeded before or as soon as it is longer than `bytesMax`. */
export async function readBody(response: HttpResponse, options: ReadBodyOptions): Promise<Uint8Array> {
  const { bytesMax, doing, signal } = options;
  const announced = contentLength(response);
  if (announced !== undefined && announced > bytesMax) {
    discard(response.body);
    throw tooLong(doing, `${announced} bytes`, bytesMax);
  }
  try {
    const bytes = await collect(response.body, options);
    // undici gives a connection to the next request a turn after the response; at once, that would open another one.
    await nextTurn();
    return bytes;
  } catch (error) {
    throw mapHttpError(error, doing, response.host, signal);
  } finally {
    discard(response.body);
  }
}

async function collect(body: Readable, { bytesMax, doing }: ReadBodyOptions): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    sizeBytes += chunk.length;
    if (sizeBytes > bytesMax) throw tooLong(doing, 'more', bytesMax);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, sizeBytes);
}

/** Drops a body and its connection; errors of it concern nobody any more. */
export function discard(body: Readable): void {
  body.on('error', () => {});
  body.destroy();
}

/** Gives up a response whose body says nothing: a short one is read to its end, so that its connection is used again. */
export function release({ body }: HttpResponse): void {
  let patienceBytes = ERROR_BODY_BYTES_MAX;
  body.on('error', () => {});
  body.on('data', (chunk: Uint8Array) => {
    patienceBytes -= chunk.length;
    if (patienceBytes < 0) body.destroy();
  });
}

export function contentLength(response: HttpResponse): number | undefined {
  const text = response.header('content-length');
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

function tooLong(doing: string, found: string, bytesMax: number): ShoalError {
  return new ShoalError(
    ErrorCode.LimitExceeded,
    `Cannot ${doing}: ${found} found, at most ${bytesMax} bytes wanted`,
  );
}
