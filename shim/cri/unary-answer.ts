import { type ClientHttp2Stream, constants as http2 } from 'node:http2';
import {
  formatTimeout,
  frameMessage,
  GrpcCode,
  headerValue,
  MESSAGE_BYTES_MAX,
  unframeMessage,
} from './grpc-wire.ts';
import type { Upstream } from './upstream.ts';

/** One whole answer to a unary call. */
export interface UnaryAnswer {
  readonly headers: readonly string[];
  readonly body: Buffer;
  /** Empty when the header block carries the status. */
  readonly trailers: readonly string[];
}

/** Reads an answer to its end; undefined when the stream breaks before, or the answer is larger than a message may be. */
export function readUnaryAnswer(stream: ClientHttp2Stream): Promise<UnaryAnswer | undefined> {
  return new Promise((resolve) => {
    let headers: readonly string[] = [];
    let trailers: readonly string[] = [];
    let sizeBytes = 0;
    let ended = false;
    const chunks: Buffer[] = [];
    stream.on('response', (_headers, _flags, rawHeaders) => {
      headers = rawHeaders;
    });
    stream.on('trailers', (_headers, _flags, ...rest: unknown[]) => {
      trailers = rest[0] as readonly string[];
    });
    stream.on('data', (chunk: Buffer) => {
      sizeBytes += chunk.length;
      if (sizeBytes > MESSAGE_BYTES_MAX) stream.close(http2.NGHTTP2_CANCEL);
      else chunks.push(chunk);
    });
    stream.on('end', () => {
      ended = true;
    });
    // The outcome is judged in `close`; without a listener a reset would be an uncaught error.
    stream.on('error', () => undefined);
    stream.on('close', () => {
      const whole = ended && stream.rstCode === http2.NGHTTP2_NO_ERROR;
      resolve(whole ? { headers, body: Buffer.concat(chunks), trailers } : undefined);
    });
  });
}

/** The gRPC status code of an answer; undefined when it has none, so it is no answer of a gRPC server. */
export function statusCodeOf({ headers, trailers }: UnaryAnswer): number | undefined {
  const code = headerValue(trailers, 'grpc-status') ?? headerValue(headers, 'grpc-status');
  return headerValue(headers, ':status') === '200' && code !== undefined ? Number(code) : undefined;
}

export interface UnaryCallOptions {
  readonly timeoutMs: number;
  /** Names and values in turn. */
  readonly metadata?: readonly string[];
}

/** Makes a call of our own. Never throws: a server that is away is status Unavailable. */
export async function callUnary(
  upstream: Upstream,
  path: string,
  request: Uint8Array,
  { timeoutMs, metadata = [] }: UnaryCallOptions,
): Promise<{ readonly code: number; readonly message: Buffer }> {
  const lost = { code: GrpcCode.Unavailable, message: Buffer.alloc(0) };
  const block = [...callHeaders(path), 'grpc-timeout', formatTimeout(timeoutMs), ...metadata];
  let stream: ClientHttp2Stream;
  try {
    stream = upstream.open(block, false).stream;
  } catch {
    return lost;
  }
  const timer = setTimeout(() => stream.close(http2.NGHTTP2_CANCEL), timeoutMs);
  const reading = readUnaryAnswer(stream);
  stream.end(frameMessage(request));
  const answer = await reading;
  clearTimeout(timer);
  const code = answer && statusCodeOf(answer);
  if (answer === undefined || code === undefined) return lost;
  return { code, message: code === GrpcCode.Ok ? unframeMessage(answer.body).message : Buffer.alloc(0) };
}

function callHeaders(path: string): string[] {
  return [
    ...[':method', 'POST', ':scheme', 'http', ':authority', 'localhost', ':path', path],
    ...['content-type', 'application/grpc', 'te', 'trailers'],
  ];
}
