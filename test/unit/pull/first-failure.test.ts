import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { firstFailure } from '../../../shim/pull/first-failure.ts';

test('firstFailure() waits for all, and throws what failed first in time', async () => {
  const settled: string[] = [];
  const after = async (ms: number, name: string, fails: boolean): Promise<void> => {
    await sleep(ms);
    settled.push(name);
    if (fails) throw new Error(name);
  };
  const running = [after(40, 'late', true), after(5, 'early', true), after(60, 'fine', false)];
  const failure = await firstFailure(running).catch((error: Error) => error.message);
  assert.is(failure, 'early');
  assert.equal(settled, ['early', 'late', 'fine']);
});

test('firstFailure() resolves when nothing fails, also for nothing', async () => {
  await firstFailure([]);
  await firstFailure([Promise.resolve(1), sleep(1)]);
});

test('firstFailure() throws undefined when that is what was thrown', async () => {
  const outcome = await firstFailure([Promise.reject(undefined)]).then(
    () => 'resolved',
    () => 'rejected',
  );
  assert.is(outcome, 'rejected');
});

test.run();
