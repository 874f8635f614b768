import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, type ShoalError } from '../../../shim/base/errors.ts';
import { watchForStall } from '../../../shim/pull/stall-watch.ts';

const LIMIT_MS = 80;

/** Watches until it aborts, or for `forMs`. */
async function watch(
  watched: Parameters<typeof watchForStall>[0],
  forMs: number,
): Promise<ShoalError | undefined> {
  const aborted = Promise.withResolvers<ShoalError>();
  const end = watchForStall(watched, LIMIT_MS, 'host/app:v1', aborted.resolve);
  const over = new AbortController();
  const enough = sleep(forMs, undefined, { signal: over.signal }).catch(() => undefined);
  const outcome = await Promise.race([aborted.promise, enough]);
  over.abort();
  end();
  return outcome;
}

test('watchForStall() aborts a pull that waits and gets nothing', async () => {
  const startedMs = performance.now();
  const error = await watch({ progress: () => 7, isWaiting: () => true }, 60_000);
  assert.is(error?.code, ErrorCode.Stalled);
  assert.match(error?.message ?? '', 'host/app:v1');
  assert.ok(performance.now() - startedMs >= LIMIT_MS * 0.9, 'not before the limit');
});

test('watchForStall() lets a pull go on that gets bytes, however few', async () => {
  let bytes = 0;
  const progress = () => {
    bytes += 1;
    return bytes;
  };
  assert.is(await watch({ progress, isWaiting: () => true }, 5 * LIMIT_MS), undefined);
});

test('watchForStall() does not count unpacking and importing as waiting', async () => {
  assert.is(await watch({ progress: () => 7, isWaiting: () => false }, 5 * LIMIT_MS), undefined);
});

test('watchForStall() begins anew after each byte and after each time of not waiting', async () => {
  let looks = 0;
  // Waits for three looks in a row, then not: never the four that make the limit.
  const isWaiting = () => looks++ % 4 !== 3;
  assert.is(await watch({ progress: () => 7, isWaiting }, 6 * LIMIT_MS), undefined);
});

test.run();
