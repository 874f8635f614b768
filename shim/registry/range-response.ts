import type { Readable } from 'node:stream';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import { contentLength, discard } from './http-body.ts';
import type { ByteRange } from './origin.ts';
import { RangeBody } from './range-body.ts';
import type { HttpResponse } from './transport.ts';

/** Refuses a range outside the blob before anything is asked. @throws SizeMismatch. */
export function checkRange(
  { offsetBytes, lengthBytes }: ByteRange,
  blobSizeBytes: number,
  doing: string,
): void {
  const isWhole = [offsetBytes, lengthBytes, blobSizeBytes].every(Number.isSafeInteger);
  if (isWhole && offsetBytes >= 0 && lengthBytes > 0 && offsetBytes + lengthBytes <= blobSizeBytes) return;
  const found = `bytes ${offsetBytes} to ${offsetBytes + lengthBytes} asked for`;
  throw new ShoalError(ErrorCode.SizeMismatch, `Cannot ${doing}: ${found}, the blob has ${blobSizeBytes}`);
}

/**
 * Opens the body of an answer to a Range request: 206 with exactly that range, or 200 with the whole blob, of which what
 * precedes the range is dropped. @throws RegistryProtocol or SizeMismatch for anything else.
 */
export function openRange(
  response: HttpResponse,
  range: ByteRange,
  blobSizeBytes: number,
  doing: string,
  signal: AbortSignal,
): Readable {
  const problem =
    response.status === 206
      ? partialProblem(response, range, blobSizeBytes)
      : wholeProblem(response, blobSizeBytes);
  if (problem === undefined) {
    const isPartial = response.status === 206;
    const skipBytes = isPartial ? 0 : range.offsetBytes;
    const endsWithRange = isPartial || range.offsetBytes + range.lengthBytes === blobSizeBytes;
    return new RangeBody(response, {
      skipBytes,
      lengthBytes: range.lengthBytes,
      endsWithRange,
      doing,
      signal,
    });
  }
  discard(response.body);
  throw new ShoalError(problem.code, `Cannot ${doing}: ${response.host} ${problem.found}`);
}

interface Problem {
  readonly code: ErrorCode;
  readonly found: string;
}

/** Content-Range (RFC 9110, 14.4) must name what was asked for, and a blob of the descriptor's size. */
function partialProblem(
  response: HttpResponse,
  range: ByteRange,
  blobSizeBytes: number,
): Problem | undefined {
  const match = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16}|\*)$/.exec(response.header('content-range') ?? '');
  if (match === null) return { code: ErrorCode.RegistryProtocol, found: 'sent a part without saying which' };
  const [, first, last, total] = match;
  if (total !== '*' && Number(total) !== blobSizeBytes)
    return { code: ErrorCode.SizeMismatch, found: `has ${total} bytes, ${blobSizeBytes} wanted` };
  const lastWanted = range.offsetBytes + range.lengthBytes - 1;
  if (Number(first) !== range.offsetBytes || Number(last) !== lastWanted)
    return {
      code: ErrorCode.RegistryProtocol,
      found: `sent bytes ${first} to ${last}, ${range.offsetBytes} to ${lastWanted} wanted`,
    };
  return lengthProblem(response, range.lengthBytes);
}

function wholeProblem(response: HttpResponse, blobSizeBytes: number): Problem | undefined {
  return lengthProblem(response, blobSizeBytes);
}

function lengthProblem(response: HttpResponse, wantedBytes: number): Problem | undefined {
  const announced = contentLength(response);
  if (announced === undefined || announced === wantedBytes) return undefined;
  return { code: ErrorCode.SizeMismatch, found: `announced ${announced} bytes, ${wantedBytes} wanted` };
}
