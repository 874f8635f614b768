import { gunzipSync } from 'node:zlib';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import { headerValue, MESSAGE_BYTES_MAX, unframeMessage } from './grpc-wire.ts';

/**
 * The message of a unary body, inflated when the call says that it is compressed.
 * @throws ShoalError `Unsupported` for a broken frame or another compression than gzip.
 */
export function readMessage(headers: readonly string[], body: Buffer): Buffer {
  const { compressed, message } = unframeMessage(body);
  if (!compressed) return message;
  const encoding = headerValue(headers, 'grpc-encoding') ?? 'none';
  if (encoding !== 'gzip') {
    throw new ShoalError(
      ErrorCode.Unsupported,
      `Cannot read "PullImage": found grpc-encoding ${encoding}, wanted gzip`,
    );
  }
  try {
    return gunzipSync(message, { maxOutputLength: MESSAGE_BYTES_MAX });
  } catch (cause) {
    throw new ShoalError(
      ErrorCode.Unsupported,
      'Cannot read "PullImage": found a broken or too large gzip stream',
      {
        cause,
      },
    );
  }
}
