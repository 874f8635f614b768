import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants as http2,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import { GrpcCode, type GrpcStatus, statusOnlyHeaders } from './grpc-wire.ts';
import { answerStatus, isAnswerable, respondRaw, trailerObject } from './respond.ts';
import type { Upstream } from './upstream.ts';

/** One call as it came in: the stream and its header block, names and values in turn, as received. */
export interface IncomingCall {
  readonly stream: ServerHttp2Stream;
  readonly headers: readonly string[];
}

/**
 * Passes one call through undecoded: header block, data, trailers, resets and back-pressure in both directions.
 * What the upstream answers is what the caller gets; an upstream that cannot be reached is status Unavailable.
 */
export function forwardStream(call: IncomingCall, upstream: Upstream): void {
  const opened = openUpstream(call, upstream, call.headers, call.stream.readableEnded);
  if (opened === undefined) return;
  call.stream.pipe(opened.stream);
  relayAnswer(call.stream, opened.stream, opened.session, upstream);
}

/** The same for a call whose whole body was read before. `headers` may differ from the call's own (a shorter deadline). */
export function forwardBuffered(
  call: IncomingCall,
  upstream: Upstream,
  headers: readonly string[],
  body: Uint8Array,
): void {
  const opened = openUpstream(call, upstream, headers, false);
  if (opened === undefined) return;
  opened.stream.end(body);
  relayAnswer(call.stream, opened.stream, opened.session, upstream);
}

function openUpstream(
  call: IncomingCall,
  upstream: Upstream,
  headers: readonly string[],
  endStream: boolean,
) {
  try {
    return upstream.open(headers, endStream);
  } catch (error) {
    const message = `Cannot forward a call to ${upstream.name}: ${error instanceof Error ? error.message : error}`;
    answerStatus(call.stream, { code: GrpcCode.Internal, message });
    return undefined;
  }
}

function relayAnswer(
  down: ServerHttp2Stream,
  up: ClientHttp2Stream,
  session: ClientHttp2Session,
  upstream: Upstream,
): void {
  let trailers: OutgoingHttpHeaders | undefined;
  const lost = (): GrpcStatus => ({ code: GrpcCode.Unavailable, message: upstream.describeLoss() });
  up.on('response', (_headers, flags, rawHeaders) => {
    if (!isAnswerable(down)) return;
    const endStream = (flags & http2.NGHTTP2_FLAG_END_STREAM) !== 0;
    respondRaw(down, rawHeaders, { endStream });
    if (!endStream) up.pipe(down);
  });
  up.on('trailers', (_headers, _flags, ...rest: unknown[]) => {
    trailers = trailerObject(rest[0] as readonly string[]);
  });
  down.on('wantTrailers', () => down.sendTrailers(trailers ?? statusTrailers(lost())));
  // The outcome is judged in `close`; without these listeners a reset would be an uncaught error.
  up.on('error', ignore);
  down.on('error', ignore);
  up.on('close', () => {
    if (!isAnswerable(down)) return;
    if (session.destroyed && trailers === undefined) loseAnswer(down, lost());
    else if (up.rstCode !== http2.NGHTTP2_NO_ERROR) down.close(up.rstCode);
  });
  down.on('close', () => {
    up.unpipe(down);
    if (!up.closed && !up.destroyed) up.close(http2.NGHTTP2_CANCEL);
  });
}

/** The upstream went away in the middle of an answer: the status is all that can still be given. */
function loseAnswer(down: ServerHttp2Stream, status: GrpcStatus): void {
  if (down.headersSent) down.end();
  else answerStatus(down, status);
}

function statusTrailers(status: GrpcStatus): OutgoingHttpHeaders {
  const headers = statusOnlyHeaders(status);
  return trailerObject(headers.slice(headers.indexOf('grpc-status')));
}

function ignore(): void {}
