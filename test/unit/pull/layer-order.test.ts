import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LayerOrder } from '../../../shim/pull/layer-order.ts';

const signal = new AbortController().signal;

test('LayerOrder lets a layer begin when the one below has, whichever is ready first', async () => {
  const order = new LayerOrder([0, 2, 3]);
  const begun: number[] = [];
  const begin = async (index: number): Promise<void> => {
    await order.turnOf(index, signal);
    begun.push(index);
    order.started(index);
  };
  await Promise.all([begin(3), begin(2), begin(0)]);
  assert.equal(begun, [0, 2, 3]);
});

test('LayerOrder does not leave a thread idle for a lower layer whose bytes do not come', async () => {
  const order = new LayerOrder([0, 1]);
  const startedMs = performance.now();
  await order.turnOf(1, signal);
  assert.ok(performance.now() - startedMs < 5_000);
});

test('LayerOrder lets nobody wait for a layer that failed before it began', async () => {
  const order = new LayerOrder([0, 1, 2]);
  let turns = 0;
  for (const index of [1, 2]) void order.turnOf(index, signal).then(() => (turns += 1));
  order.started(0);
  order.started(1);
  await nextTurn();
  assert.is(turns, 2);
});

test('LayerOrder ends the wait of a pull that is given up', async () => {
  const order = new LayerOrder([0, 1]);
  const stop = new AbortController();
  const turn = order.turnOf(1, stop.signal);
  stop.abort();
  const error = await turn.then(
    () => undefined,
    (reason: { code?: string }) => reason,
  );
  assert.is(error?.code, 'CANCELLED');
});

test.run();
