import { ErrorCode, isShoalError, nodeErrorCode, ShoalError } from '../base/errors.ts';

/** The file system, not the file, is the trouble: no write to the cache will work for now. */
const DISK_CODES: ReadonlySet<string> = new Set([
  'ENOSPC',
  'EDQUOT',
  'EROFS',
  'EIO',
  'EACCES',
  'EPERM',
  'EMFILE',
  'ENFILE',
]);

/** Maps what `node:fs` threw. Paths of the cache hold hashes only, so they may be shown. */
export function cacheError(doing: string, path: string, error: unknown): ShoalError {
  if (error instanceof ShoalError) return error;
  const code = nodeErrorCode(error);
  const state = code ?? 'an unknown failure';
  return new ShoalError(
    ErrorCode.CacheUnavailable,
    `Cannot ${doing} "${path}": ${state}, a writable cache wanted`,
    {
      cause: error,
      retriable: code !== 'EROFS',
      facts: code === undefined ? {} : { errno: code },
    },
  );
}

export function isDiskFailure(error: unknown): boolean {
  if (!isShoalError(error, ErrorCode.CacheUnavailable)) return false;
  const code = nodeErrorCode(error.cause);
  return code !== undefined && DISK_CODES.has(code);
}
