import type { ServerHttp2Stream } from 'node:http2';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import { MESSAGE_BYTES_MAX, MESSAGE_PREFIX_BYTES } from './grpc-wire.ts';

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
