import { setImmediate as turn } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { OutputQueue } from '../../../shim/unpack/output-queue.ts';

const test = suite('output queue');

function recordingQueue() {
  const consumed: Buffer[] = [];
  const queue = new OutputQueue((part) => void consumed.push(Buffer.from(part)));
  return { queue, consumed, bytes: () => Buffer.concat(consumed) };
}

test('gives everything once and in order, whoever asks for it', async () => {
  const { queue, bytes } = recordingQueue();
  const given: Buffer[] = [];
  for (let index = 0; index < 20; index++) {
    const output = queue.take();
    output.fill(index);
    output.writeUInt32LE(index, output.length - 4);
    given.push(Buffer.from(output));
    queue.add(output);
    if (index % 3 === 1) await queue.drainDuring(turn());
    if (index % 7 === 6) queue.drain();
  }
  queue.drain();
  assert.ok(bytes().equals(Buffer.concat(given)));
});

test('hands out a bounded number of buffers: the rest must be consumed first', () => {
  const { queue, consumed, bytes } = recordingQueue();
  const buffers = new Set<Buffer>();
  let addedBytes = 0;
  for (let index = 0; index < 50; index++) {
    const output = queue.take();
    buffers.add(output);
    queue.add(output);
    addedBytes += output.length;
  }
  assert.is(buffers.size, 3);
  assert.ok(addedBytes - bytes().length <= 3 * 1024 * 1024);
  assert.ok(consumed.every((part) => part.length <= 128 * 1024));
});

test('stops consuming when the step is done', async () => {
  const { queue, consumed } = recordingQueue();
  const output = queue.take();
  queue.add(output);
  assert.is(await queue.drainDuring(Promise.resolve('done')), 'done');
  assert.is(consumed.length, 1);
});

test('a step that fails is told after what was being consumed', async () => {
  const { queue, consumed } = recordingQueue();
  queue.add(queue.take());
  const failed = queue.drainDuring(turn().then(() => Promise.reject(new Error('cut off'))));
  await failed.then(assert.unreachable, (error: Error) => assert.is(error.message, 'cut off'));
  assert.ok(consumed.length > 0);
});

test('what the consumer throws is thrown, and a step that fails later disturbs nobody', async () => {
  const queue = new OutputQueue(() => {
    throw new Error('disk is full');
  });
  queue.add(queue.take());
  const late = turn().then(() => Promise.reject(new Error('cut off')));
  await queue.drainDuring(late).then(assert.unreachable, (error: Error) => {
    assert.is(error.message, 'disk is full');
  });
  await turn();
});

test('buffers of a queue that is done go to the next one, those of a queue that failed do not', () => {
  const first = recordingQueue().queue;
  const output = first.take();
  first.recycle(output);
  const second = recordingQueue().queue;
  const reused = [second.take(), second.take(), second.take()];
  assert.ok(reused.includes(output));
  const third = recordingQueue().queue;
  assert.not(reused.includes(third.take()));
});

test.run();
