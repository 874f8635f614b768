import { ErrorCode, isShoalError } from '../base/errors.ts';

/**
 * What becomes of a pull that failed here: `return` gives the error to the caller because containerd would give the
 * same one, `handOver` lets containerd's own PullImage have it.
 */
export interface FailureVerdict {
  readonly verdict: 'return' | 'handOver';
  /** For logs and counters: an error code or `internal`. */
  readonly reason: string;
}

/**
 * Never worse than plain: only what containerd is certain to answer as well is returned. A refusal counts as certain
 * only when our request carried credentials: containerd's configuration may hold some that we have not.
 */
export function judgeFailure(error: unknown, hadCredentials: boolean): FailureVerdict {
  if (!isShoalError(error)) return { verdict: 'handOver', reason: 'internal' };
  const certain = RETURNED.has(error.code) || (hadCredentials && REFUSALS.has(error.code));
  return { verdict: certain ? 'return' : 'handOver', reason: error.code };
}

const RETURNED: ReadonlySet<string> = new Set([ErrorCode.NotFound, ErrorCode.Cancelled]);
const REFUSALS: ReadonlySet<string> = new Set([ErrorCode.Unauthorized, ErrorCode.Forbidden]);
