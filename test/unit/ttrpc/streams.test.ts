import { setTimeout as sleep } from 'node:timers/promises';
import { Code, encodeFrame, FrameType } from 'ttrpc';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { STALL_MS } from '../../../nri/ttrpc/message-queue.ts';
import { collect, errorOf, requestFrame, startPair } from './echo-pair.ts';

const test = suite('ttrpc streams');

test('a server stream gives all messages and ends', async () => {
  await using pair = await startPair();
  const stream = pair.client.openStream('test.Echo', 'Count', { request: Buffer.from('200') });
  assert.equal(
    await collect(stream),
    Array.from({ length: 200 }, (_, index) => `${index}`),
  );
});

test('a client stream gets its one answer', async () => {
  await using pair = await startPair();
  const stream = pair.client.openStream('test.Echo', 'Sum', { clientStreams: true });
  for (const number of [1, 20, 300]) await stream.send(Buffer.from(`${number}`));
  await stream.closeSend();
  assert.equal(await collect(stream), ['321']);
});

test('both sides stream, and the error of the server ends it for good', async () => {
  await using pair = await startPair();
  const stream = pair.client.openStream('test.Echo', 'Talk', { clientStreams: true });
  const messages = stream[Symbol.asyncIterator]();
  for (const text of ['one', '', 'three']) {
    await stream.send(Buffer.from(text));
    assert.is((await messages.next()).value?.toString(), text);
  }
  await stream.send(Buffer.from('stop'));
  await messages.next();
  const error = await errorOf(messages.next());
  assert.equal([error.code, error.message], [Code.Aborted, 'told to stop']);
  assert.is((await errorOf(stream.send(Buffer.from('late')))).code, Code.Aborted);
});

test('a call of a stream as if it were unary is told apart', async () => {
  await using pair = await startPair();
  const error = await errorOf(pair.client.call('test.Echo', 'Count', Buffer.from('3')));
  assert.is(error.code, Code.Internal);
});

test('a stream that is not read fails with ResourceExhausted, and the others go on', async () => {
  await using pair = await startPair();
  const stream = pair.client.openStream('test.Echo', 'Flood', { request: Buffer.alloc(0) });
  // Until one has waited for the stream to be given up.
  for (let tookMs = 0; tookMs < STALL_MS / 2; ) {
    const startedMs = performance.now();
    await pair.client.call('test.Echo', 'Echo', Buffer.from('x'));
    tookMs = performance.now() - startedMs;
  }
  assert.is((await errorOf(collect(stream))).code, Code.ResourceExhausted);
});

test('a slow reader of a stream gets every message', async () => {
  await using pair = await startPair();
  const stream = pair.client.openStream('test.Echo', 'Flood', { request: Buffer.alloc(0) });
  let count = 0;
  for await (const _message of stream) if (++count % 500 === 0) await sleep(1);
  assert.is(count, 10_000);
});

test('leaving the loop gives the stream up, and the connection lives on', async () => {
  await using pair = await startPair();
  const stream = pair.client.openStream('test.Echo', 'Flood', { request: Buffer.alloc(0) });
  for await (const _message of stream) break;
  assert.is((await pair.client.call('test.Echo', 'Echo', Buffer.from('x'))).toString(), 'x');
});

test('data for a method that takes none, and a closing frame with data, are refused', async () => {
  await using pair = await startPair();
  const data = (flags: number): Buffer =>
    encodeFrame({ streamId: 1, type: FrameType.Data, flags, data: Buffer.from('x') });
  const [unary] = await pair.raw(Buffer.concat([requestFrame(1, 'Never'), data(0)]), 1);
  assert.match(unary?.data.toString('latin1') ?? '', /takes no stream/);
  const [closing] = await pair.raw(Buffer.concat([requestFrame(1, 'Sum', 2), data(1)]), 1);
  assert.match(closing?.data.toString('latin1') ?? '', /closing frame holds data/);
});

test.run();
