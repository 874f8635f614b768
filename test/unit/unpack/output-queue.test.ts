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

/** Fills the room that there is, as inflating would. */
function fill(queue: OutputQueue, value: number): Buffer {
  const { room } = queue;
  room.fill(value);
  const given = Buffer.from(room);
  queue.add(room.length);
  return given;
}

test('gives everything once and in order, whoever asks for it', async () => {
  const { queue, bytes } = recordingQueue();
  const given: Buffer[] = [];
  for (let index = 0; index < 20; index++) {
    const room = index % 5 === 4 ? queue.roomAlone() : queue.room;
    const part = room.subarray(0, Math.ceil(room.length / ((index % 3) + 1)));
    part.fill(index);
    part.writeUInt32LE(index, part.length - 4);
    given.push(Buffer.from(part));
    queue.add(part.length);
    if (index % 3 === 1) await queue.drainDuring(turn());
    if (index % 7 === 6) queue.drain();
  }
  queue.drain();
  assert.ok(bytes().equals(Buffer.concat(given)));
});

test('holds a bounded number of bytes: the rest must be consumed first', () => {
  const { queue, consumed, bytes } = recordingQueue();
  let addedBytes = 0;
  for (let index = 0; index < 20; index++) addedBytes += fill(queue, index).length;
  assert.ok(addedBytes - bytes().length <= 6 * 1024 * 1024);
  assert.ok(consumed.every((part) => part.length <= 128 * 1024));
});

test('whoever works alone finds everything consumed, and gets little room', () => {
  const { queue, bytes } = recordingQueue();
  const given = fill(queue, 1);
  const room = queue.roomAlone();
  assert.ok(bytes().equals(given));
  assert.ok(room.length <= 1024 * 1024);
});

test('stops consuming when the step is done', async () => {
  const { queue, consumed } = recordingQueue();
  fill(queue, 1);
  assert.is(await queue.drainDuring(Promise.resolve('done')), 'done');
  assert.is(consumed.length, 1);
});

test('a step that fails is told after what was being consumed', async () => {
  const { queue, consumed } = recordingQueue();
  fill(queue, 1);
  const failed = queue.drainDuring(turn().then(() => Promise.reject(new Error('cut off'))));
  await failed.then(assert.unreachable, (error: Error) => assert.is(error.message, 'cut off'));
  assert.ok(consumed.length > 0);
});

test('what the consumer throws is thrown, and a step that fails later disturbs nobody', async () => {
  const queue = new OutputQueue(() => {
    throw new Error('disk is full');
  });
  fill(queue, 1);
  const late = turn().then(() => Promise.reject(new Error('cut off')));
  await queue.drainDuring(late).then(assert.unreachable, (error: Error) => {
    assert.is(error.message, 'disk is full');
  });
  await turn();
});

test('buffers of a queue that is done go to the next one, those of a queue that failed do not', () => {
  const first = recordingQueue().queue;
  const { buffer } = first.room;
  first.recycle();
  const memories = (queue: OutputQueue): Set<unknown> => {
    const found = new Set<unknown>();
    for (let index = 0; index < 3; index++) {
      found.add(queue.room.buffer);
      fill(queue, index);
    }
    return found;
  };
  const reused = memories(recordingQueue().queue);
  assert.is(reused.size, 3);
  assert.ok(reused.has(buffer));
  assert.not(reused.has(recordingQueue().queue.room.buffer));
});

test.run();
