import type { Descriptor } from '../base/descriptor.ts';
import { ErrorCode, isShoalError, ShoalError } from '../base/errors.ts';

/**
 * Adds to a NotFound which content of the image the registry lacks, as the fact `content`: the caller is told of a missing layer in
 * other words than of a missing image. Other errors are given back as they are.
 */
export function nameMissing(error: unknown, { digest, mediaType }: Descriptor): unknown {
  if (!isShoalError(error, ErrorCode.NotFound)) return error;
  const facts = { ...error.facts, content: `${digest} (${mediaType})` };
  return new ShoalError(ErrorCode.NotFound, error.message, { cause: error, facts });
}
