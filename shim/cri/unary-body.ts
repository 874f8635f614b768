import type { ServerHttp2Stream } from 'node:http2';
import { gunzipSync } from 'node:zlib';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import { headerValue, MESSAGE_BYTES_MAX, MESSAGE_PREFIX_BYTES, unframeMessage } from './grpc-wire.ts';

/**
 * Reads the whole body of a unary call.
 * @throws ShoalError `LimitExceeded` above one message of 16 MiB, `Cancelled` when the caller resets the stream.
 */
export function readUnaryBody(stream: ServerHttp2Stream): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    const end = () => settle(() => resolve(Buffer.concat(chunks)));
    const close = () => settle(() => reject(resetByCaller()));
    const data = (chunk: Buffer) => {
      chunks.push(chunk);
      sizeBytes += chunk.length;
      if (sizeBytes > MESSAGE_BYTES_MAX + MESSAGE_PREFIX_BYTES) settle(() => reject(tooLarge()));
    };
    const settle = (finish: () => void) => {
      stream.off('data', data).off('end', end).off('close', close);
      finish();
    };
    stream.on('data', data).on('end', end).on('close', close);
  });
}

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

function resetByCaller(): ShoalError {
  return new ShoalError(ErrorCode.Cancelled, 'Cannot read "PullImage": the caller reset the call');
}

function tooLarge(): ShoalError {
  const wanted = `wanted at most ${MESSAGE_BYTES_MAX}`;
  return new ShoalError(
    ErrorCode.LimitExceeded,
    `Cannot read "PullImage": found more bytes than allowed, ${wanted}`,
  );
}
