import { ErrorCode, ShoalError } from '../base/errors.ts';
import { PullWait } from '../swarm/swarm-node.ts';

/** How long peers may still bring chunks after the origin refused this node for good. */
const REFUSED_GRACE_MS = 3_000;
/** How long the origin may give wrong answers to a node that has nobody else to ask: some retries. */
const ALONE_GRACE_MS = 4_000;
/** How long the origin may keep failing while no byte comes from anywhere. */
const ORIGIN_FAILURE_GRACE_MS = 15_000;

/** What a fetch to which nothing comes knows; times in ms of one clock. */
export interface Waiting {
  readonly wait: PullWait;
  readonly originError: ShoalError | undefined;
  /** When its bytes last came. */
  readonly progressMs: number;
  /** When bytes of any fetch last came. */
  readonly othersMs: number;
  readonly nowMs: number;
}

/**
 * Since when it has been without bytes for no good reason, ms. What waits for others waits for as long as something comes for those, also
 * to try the origin again.
 */
export function idleSinceMs({ wait, originError, progressMs, othersMs, nowMs }: Waiting): number {
  if (wait === PullWait.Leave && originError === undefined) return nowMs;
  if (wait === PullWait.Others && originError?.retriable !== false) return Math.max(progressMs, othersMs);
  return progressMs;
}

/** A fetch to which nothing has come for a while. */
export interface IdleFetch {
  readonly digest: string;
  readonly idleMs: number;
  /** Why the origin gave nothing, when it was asked last. */
  readonly originError: ShoalError | undefined;
  /** Connected to no peer. */
  readonly isAlone: boolean;
  readonly blobStallMs: number;
}

/** What the fetch fails with by now; undefined while it may go on. */
export function verdictOnIdle(fetch: IdleFetch): ShoalError | undefined {
  const { digest, idleMs, originError, isAlone, blobStallMs } = fetch;
  if (originError !== undefined && idleMs > graceMs(originError, isAlone)) return originError;
  if (idleMs <= blobStallMs) return undefined;
  return new ShoalError(
    ErrorCode.Stalled,
    `Cannot fetch "${digest}": no byte came for ${Math.round(idleMs)} ms`,
    { retriable: true },
  );
}

/** How long somebody else may still help, or the origin itself come round, ms. */
function graceMs(error: ShoalError, isAlone: boolean): number {
  const isRefused = [ErrorCode.Unauthorized, ErrorCode.Forbidden, ErrorCode.NotFound].some(
    (code) => code === error.code,
  );
  if (isRefused) return isAlone ? 0 : REFUSED_GRACE_MS;
  return isAlone && !error.retriable ? ALONE_GRACE_MS : ORIGIN_FAILURE_GRACE_MS;
}
