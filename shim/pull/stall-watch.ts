import { ErrorCode, ShoalError } from '../base/errors.ts';

/** How often progress is looked at, as a part of the limit. */
const LOOKS_PER_LIMIT = 4;

/**
 * Aborts with `Stalled` when `progress()` gives the same value for `limitMs` while `isWaiting()`. Unpacking and importing
 * move no bytes and do not count as waiting. Call the returned function to end the watch.
 */
export function watchForStall(
  watched: { readonly progress: () => number; readonly isWaiting: () => boolean },
  limitMs: number,
  what: string,
  abort: (reason: ShoalError) => void,
): () => void {
  let last = watched.progress();
  let unchangedLooks = 0;
  const timer = setInterval(() => {
    const now = watched.progress();
    unchangedLooks = now === last && watched.isWaiting() ? unchangedLooks + 1 : 0;
    last = now;
    if (unchangedLooks >= LOOKS_PER_LIMIT) abort(stalled(what, limitMs));
  }, limitMs / LOOKS_PER_LIMIT);
  return () => clearInterval(timer);
}

/** The failure of a pull that waited for `limitMs` and got nothing. */
export function stalled(what: string, limitMs: number): ShoalError {
  return new ShoalError(ErrorCode.Stalled, `Cannot pull "${what}": nothing came for ${limitMs / 1000} s`, {
    retriable: true,
  });
}
