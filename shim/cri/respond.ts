import type { OutgoingHttpHeaders, ServerHttp2Stream, ServerStreamResponseOptions } from 'node:http2';
import { type GrpcStatus, statusOnlyHeaders } from './grpc-wire.ts';

/** Sends a header block, names and values in turn, with nothing added to it. */
export function respondRaw(
  stream: ServerHttp2Stream,
  headers: readonly string[],
  options: { readonly endStream: boolean },
): void {
  // The types know neither flat header lists nor `sendDate`, both of which Node takes here.
  const flat = [...headers] as unknown as OutgoingHttpHeaders;
  const end = options.endStream ? { endStream: true } : { waitForTrailers: true };
  const sent: ServerStreamResponseOptions & { sendDate: boolean } = { ...end, sendDate: false };
  stream.respond(flat, sent);
}

/** Answers a call with a status and no message, if it can still be answered. */
export function answerStatus(stream: ServerHttp2Stream, status: GrpcStatus): void {
  if (!isAnswerable(stream) || stream.headersSent) return;
  respondRaw(stream, statusOnlyHeaders(status), { endStream: true });
}

/** Whether the caller still waits. */
export function isAnswerable(stream: ServerHttp2Stream): boolean {
  return !stream.destroyed && !stream.closed;
}

/** Trailers in the form that Node sends, from names and values in turn; a repeated name keeps all its values. */
export function trailerObject(flat: readonly string[]): OutgoingHttpHeaders {
  const headers: Record<string, string | string[]> = Object.create(null);
  for (let index = 0; index + 1 < flat.length; index += 2) {
    const name = flat[index] as string;
    const value = flat[index + 1] as string;
    const known = headers[name];
    headers[name] = known === undefined ? value : [known, value].flat();
  }
  return headers;
}
