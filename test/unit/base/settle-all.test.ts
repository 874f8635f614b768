import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { settleAll } from '../../../shim/base/settle-all.ts';

test('settleAll() waits for all, and throws what failed first in time', async () => {
  const settled: string[] = [];
  const after = async (ms: number, name: string, fails: boolean): Promise<void> => {
    await sleep(ms);
    settled.push(name);
    if (fails) throw new Error(name);
  };
  const running = [after(40, 'late', true), after(5, 'early', true), after(60, 'fine', false)];
  const failure = await settleAll(running).catch((error: Error) => error.message);
  assert.is(failure, 'early');
  assert.equal(settled, ['early', 'late', 'fine']);
});

test('settleAll() gives all values in order when nothing fails', async () => {
  assert.equal(await settleAll([]), []);
  assert.equal(await settleAll([sleep(5, 'slow'), Promise.resolve(1), undefined]), ['slow', 1, undefined]);
});

test('settleAll() throws undefined when that is what was thrown', async () => {
  const outcome = await settleAll([Promise.reject(undefined)]).then(
    () => 'resolved',
    () => 'rejected',
  );
  assert.is(outcome, 'rejected');
});

test.run();
