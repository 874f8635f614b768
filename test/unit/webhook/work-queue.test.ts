import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { WorkQueue } from '../../../webhook/work-queue.ts';

test('WorkQueue gives each key once, in the order of arrival', () => {
  const queue = new WorkQueue(10);
  for (const key of ['a', 'b', 'a', 'c', 'b']) queue.add(key, 0);
  assert.equal([queue.take(0), queue.take(0), queue.take(0), queue.take(0)], ['a', 'b', 'c', undefined]);
});

test('WorkQueue never gives a key to two workers, and gives it again when it was added meanwhile', () => {
  const queue = new WorkQueue(10);
  queue.add('a', 0);
  assert.is(queue.take(0), 'a');
  queue.add('a', 5);
  assert.is(queue.take(5), undefined);
  queue.done('a');
  assert.is(queue.take(4), undefined, 'before its time');
  assert.is(queue.take(5), 'a');
  queue.done('a');
  assert.is(queue.take(100), undefined);
  assert.is(queue.length, 0);
});

test('WorkQueue backs off for each key on its own, up to five minutes, and starts anew after success', () => {
  const queue = new WorkQueue(10);
  queue.add('bad', 0);
  let nowMs = 0;
  const waits: number[] = [];
  for (let failures = 0; failures < 14; failures++) {
    assert.is(queue.take(nowMs), 'bad');
    queue.failed('bad', nowMs, 1);
    const nextMs = queue.nextAtMs() ?? 0;
    waits.push(nextMs - nowMs);
    nowMs = nextMs;
  }
  assert.equal(waits.slice(0, 4), [500, 1_000, 2_000, 4_000]);
  assert.is(waits.at(-1), 300_000);
  queue.add('good', nowMs - 1);
  assert.is(queue.take(nowMs - 1), 'good', 'others do not wait');
  assert.is(queue.take(nowMs), 'bad');
  queue.done('bad');
  queue.add('bad', nowMs);
  assert.is(queue.take(nowMs), 'bad');
  queue.failed('bad', nowMs, 0);
  assert.is((queue.nextAtMs() ?? 0) - nowMs, 250);
});

test('WorkQueue keeps a failed key waiting though it is added meanwhile', () => {
  const queue = new WorkQueue(10);
  queue.add('a', 0);
  queue.take(0);
  queue.add('a', 0);
  queue.failed('a', 0, 1);
  assert.is(queue.take(499), undefined);
  assert.is(queue.take(500), 'a');
});

test('WorkQueue turns keys away above its limit, and tells so once when there is room', () => {
  const queue = new WorkQueue(4);
  for (const key of ['a', 'b', 'c', 'd']) assert.ok(queue.add(key, 0));
  assert.not.ok(queue.add('e', 0));
  assert.ok(queue.add('a', 0), 'one that waits already is taken');
  assert.not.ok(queue.takeOverflow(), 'not while it is full');
  for (let taken = 0; taken < 2; taken++) queue.done(queue.take(0) as string);
  assert.ok(queue.takeOverflow());
  assert.not.ok(queue.takeOverflow());
});

test.run();
