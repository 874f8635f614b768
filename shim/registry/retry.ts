import { setTimeout as sleep } from 'node:timers/promises';
import pRetry from 'p-retry';
import { cancelled, isShoalError, type ShoalError } from '../base/errors.ts';
import type { OriginLimits } from './limits.ts';

/**
 * Runs `attempt` again while it fails with an error that says `retriable`, with growing pauses, or those that the
 * registry asked for as long as their sum stays within `retryAfterTotalMs`.
 */
export async function withRetries<T>(
  attempt: () => Promise<T>,
  limits: OriginLimits,
  doing: string,
  signal: AbortSignal,
): Promise<T> {
  let patienceMs = limits.retryAfterTotalMs;
  const mayRetry = async (error: unknown): Promise<boolean> => {
    if (!isShoalError(error) || !error.retriable || signal.aborted) return false;
    const waitMs = error.retryAfterMs ?? 0;
    if (waitMs > patienceMs) return false;
    patienceMs -= waitMs;
    if (waitMs > 0) await sleep(waitMs, undefined, { signal });
    return true;
  };
  try {
    return await pRetry(attempt, {
      retries: limits.retriesMax,
      minTimeout: limits.retryDelayMs,
      factor: 2,
      randomize: true,
      signal,
      shouldRetry: ({ error }) => mayRetry(error),
    });
  } catch (error) {
    throw signal.aborted ? cancelled(signal, doing) : (error as ShoalError);
  }
}
