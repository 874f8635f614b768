import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';

/** Names from a tar are not trusted to be short. */
export function shownName(name: string): string {
  return Buffer.from(name.slice(0, 200), 'latin1').toString();
}

/** What the system refused for one entry, as UnpackFailed; other errors are passed on. */
export function failedEntry(name: string, error: unknown): unknown {
  const code = nodeErrorCode(error);
  if (error instanceof ShoalError || code === undefined) return error;
  return new ShoalError(ErrorCode.UnpackFailed, `Cannot unpack "${shownName(name)}": ${code}`, {
    cause: error,
    facts: { path: shownName(name), errno: code },
  });
}
