import { cancelled } from './errors.ts';

/** Settles as `promise` does, or rejects as soon as `signal` aborts. The work behind `promise` goes on. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal, doing = 'wait'): Promise<T> {
  // Whoever gave up looks at the promise no longer, and its failure must not end the process.
  promise.catch(() => undefined);
  if (signal.aborted) throw cancelled(signal, doing);
  const { promise: gaveUp, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(cancelled(signal, doing));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, gaveUp]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
