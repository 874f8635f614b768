import { ErrorCode, isShoalError } from '../base/errors.ts';

/** Exit codes of `shoal`; part of its interface. */
export const ExitCode = {
  Ok: 0,
  /** Anything that has no code of its own. */
  Failed: 1,
  /** Wrong use: unknown command or option, malformed image reference, bad configuration. */
  Usage: 2,
  /** The registry has no such image. */
  NotFound: 3,
  /** The registry refused the credentials, or wants some. */
  Denied: 4,
  /** Registry, agent or containerd cannot be reached. */
  Unavailable: 5,
  /** Ended by SIGINT. */
  Interrupted: 130,
} as const;

const BY_ERROR: Readonly<Partial<Record<string, number>>> = {
  [ErrorCode.InvalidReference]: ExitCode.Usage,
  [ErrorCode.ConfigInvalid]: ExitCode.Usage,
  [ErrorCode.NotFound]: ExitCode.NotFound,
  [ErrorCode.Unauthorized]: ExitCode.Denied,
  [ErrorCode.Forbidden]: ExitCode.Denied,
  [ErrorCode.RegistryUnavailable]: ExitCode.Unavailable,
  [ErrorCode.StoreUnavailable]: ExitCode.Unavailable,
  [ErrorCode.Cancelled]: ExitCode.Interrupted,
};

export function exitCodeOf(error: unknown): number {
  return isShoalError(error) ? exitCodeOfCode(error.code) : ExitCode.Failed;
}

export function exitCodeOfCode(code: string): number {
  return BY_ERROR[code] ?? ExitCode.Failed;
}
