import { constants as http2 } from 'node:http2';
import { ErrorCode, ShoalError } from '../base/errors.ts';

/** Status codes of gRPC that are spoken of here. */
export const GrpcCode = {
  Ok: 0,
  Cancelled: 1,
  Unknown: 2,
  InvalidArgument: 3,
  DeadlineExceeded: 4,
  NotFound: 5,
  ResourceExhausted: 8,
  FailedPrecondition: 9,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
} as const;
export type GrpcCode = (typeof GrpcCode)[keyof typeof GrpcCode];

export interface GrpcStatus {
  readonly code: number;
  readonly message: string;
}

/** Flag byte and big-endian length in front of every message. */
export const MESSAGE_PREFIX_BYTES = 5;
/** The largest message that kubelet and containerd send or take on CRI (16 MiB). */
export const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
/** Longer status messages are cut: peers limit a header block, and kubelet puts the text into an event. */
export const STATUS_MESSAGE_BYTES_MAX = 4096;

const UNIT_MS: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};
/** `grpc-timeout` has at most eight digits. */
const TIMEOUT_DIGITS_MAX = 99_999_999;

/** Milliseconds in a `grpc-timeout` value; undefined when there is none or it is malformed. */
export function parseTimeout(value: string | undefined): number | undefined {
  const match = /^(\d{1,8})([HMSmun])$/.exec(value ?? '');
  const unitMs = UNIT_MS[match?.[2] ?? ''];
  return match === null || unitMs === undefined ? undefined : Number(match[1]) * unitMs;
}

/** The `grpc-timeout` value for a remaining time, in the finest unit whose eight digits can hold it. */
export function formatTimeout(remainingMs: number): string {
  const leftMs = Math.max(remainingMs, 1e-6);
  for (const unit of ['n', 'u', 'm', 'S', 'M'] as const) {
    // Rounded to what a double can hold before it is rounded up, so that 0.002 ms is 2000 ns and not 2001.
    const count = Math.ceil(Number((leftMs / (UNIT_MS[unit] as number)).toPrecision(12)));
    if (count <= TIMEOUT_DIGITS_MAX) return `${count}${unit}`;
  }
  return `${Math.min(Math.ceil(leftMs / 3_600_000), TIMEOUT_DIGITS_MAX)}H`;
}

/** One uncompressed message in its frame. */
export function frameMessage(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(MESSAGE_PREFIX_BYTES + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, MESSAGE_PREFIX_BYTES);
  return frame;
}

/**
 * The single message of a unary body.
 * @throws ShoalError `Unsupported` when the body is not exactly one frame.
 */
export function unframeMessage(body: Buffer): { readonly compressed: boolean; readonly message: Buffer } {
  const lengthBytes = body.length >= MESSAGE_PREFIX_BYTES ? body.readUInt32BE(1) : undefined;
  const flag = body[0] ?? 0;
  if (lengthBytes !== body.length - MESSAGE_PREFIX_BYTES || flag > 1) {
    const found = `${body.length} bytes with flag ${flag} that claim a message of ${lengthBytes ?? 'unknown length'}`;
    throw new ShoalError(
      ErrorCode.Unsupported,
      `Cannot read "PullImage": found ${found}, wanted one gRPC frame`,
    );
  }
  return { compressed: flag === 1, message: body.subarray(MESSAGE_PREFIX_BYTES) };
}

/** Percent-encodes a status message: what is not printable ASCII, and `%`; cut at a whole character. */
export function encodeStatusMessage(message: string): string {
  const out: string[] = [];
  let sizeBytes = 0;
  for (const character of message) {
    const encoded = /^[ -$&-~]$/.test(character) ? character : percentEncode(character);
    sizeBytes += encoded.length;
    if (sizeBytes > STATUS_MESSAGE_BYTES_MAX) break;
    out.push(encoded);
  }
  return out.join('');
}

function percentEncode(character: string): string {
  let out = '';
  for (const byte of Buffer.from(character)) out += `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  return out;
}

/** Header block of an answer that is a status and nothing else. */
export function statusOnlyHeaders(status: GrpcStatus): string[] {
  return [
    http2.HTTP2_HEADER_STATUS,
    '200',
    'content-type',
    'application/grpc',
    'grpc-status',
    String(status.code),
    'grpc-message',
    encodeStatusMessage(status.message),
  ];
}

/** Header block of an answer with messages; the status follows as trailers. */
export const RESPONSE_HEADERS: readonly string[] = [
  http2.HTTP2_HEADER_STATUS,
  '200',
  'content-type',
  'application/grpc',
];

/** First value of a name in a flat list of names and values. */
export function headerValue(headers: readonly string[], name: string): string | undefined {
  for (let index = 0; index + 1 < headers.length; index += 2) {
    if (headers[index] === name) return headers[index + 1];
  }
  return undefined;
}

/** A flat list with `grpc-timeout` replaced, if it has one. */
export function withTimeout(headers: readonly string[], remainingMs: number): string[] {
  const out = [...headers];
  for (let index = 0; index + 1 < out.length; index += 2) {
    if (out[index] === 'grpc-timeout') out[index + 1] = formatTimeout(remainingMs);
  }
  return out;
}
