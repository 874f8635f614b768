import { duplexPair } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { CALLS_MAX, Code, DATA_BYTES_MAX, encodeFrame, FrameType, TtrpcClient } from 'ttrpc';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { errorOf, requestFrame, seen, startPair } from './echo-pair.ts';

const test = suite('ttrpc calls');

test('call() gives the answer, with metadata and time limit seen by the handler', async () => {
  await using pair = await startPair();
  const metadata = { 'Containerd-Namespace-TTRPC': 'k8s.io', many: ['a', 'b'] };
  const answer = await pair.client.call('test.Echo', 'Echo', Buffer.from('hello'), {
    timeoutMs: 5000,
    metadata,
  });
  assert.is(answer.toString(), 'hello');
  assert.equal(
    [...(seen.context?.metadata ?? [])],
    [
      ['containerd-namespace-ttrpc', ['k8s.io']],
      ['many', ['a', 'b']],
    ],
  );
  assert.is(seen.context?.timeoutMs, 5000);
  assert.ok(seen.context?.signal.aborted, 'the signal ends with the call');
});

test('many calls at once each get their own answer', async () => {
  await using pair = await startPair();
  const texts = Array.from({ length: 300 }, (_, index) => `message ${index}`);
  const answers = await Promise.all(
    texts.map((text, index) =>
      pair.client.call('test.Echo', index % 2 ? 'Echo' : 'Later', Buffer.from(text)),
    ),
  );
  assert.equal(answers.map(String), texts);
});

test('errors keep their code, message and details; what is no TtrpcError is Unknown', async () => {
  await using pair = await startPair();
  const failed = await errorOf(pair.client.call('test.Echo', 'Fail', Buffer.alloc(0)));
  assert.equal([failed.code, failed.message], [Code.NotFound, 'no such thing']);
  assert.equal(failed.details, [{ typeUrl: 'test/Detail', value: Buffer.from('why') }]);
  const broken = await errorOf(pair.client.call('test.Echo', 'Break', Buffer.alloc(0)));
  assert.equal([broken.code, broken.message], [Code.Unknown, 'broken']);
});

test('unknown services and methods are Unimplemented, also those that every object has', async () => {
  await using pair = await startPair();
  const nothing = Buffer.alloc(0);
  for (const [service, method, message] of [
    ['test.None', 'Echo', 'service test.None'],
    ['test.Echo', 'None', 'method None'],
    ['toString', 'call', 'service toString'],
    ['test.Echo', 'constructor', 'method constructor'],
  ] as const) {
    const error = await errorOf(pair.client.call(service, method, nothing));
    assert.equal([error.code, error.message], [Code.Unimplemented, message]);
  }
});

test('a call ends at its time limit on both sides, and the connection lives on', async () => {
  await using pair = await startPair();
  const error = await errorOf(pair.client.call('test.Echo', 'Never', Buffer.alloc(0), { timeoutMs: 20 }));
  assert.is(error.code, Code.DeadlineExceeded);
  while (!seen.context?.signal.aborted) await sleep(1);
  assert.is((await pair.client.call('test.Echo', 'Echo', Buffer.from('x'))).toString(), 'x');
});

test('a call ends at its time limit also when the server says nothing at all', async () => {
  const [ours, theirs] = duplexPair();
  theirs.resume();
  const client = new TtrpcClient(ours);
  const error = await errorOf(client.call('test.Echo', 'Echo', Buffer.alloc(0), { timeoutMs: 20 }));
  assert.equal([error.code, error.message], [Code.DeadlineExceeded, 'no answer within 20 ms']);
  client.close();
});

test('no more calls than allowed wait for their answers', async () => {
  const [ours, theirs] = duplexPair();
  theirs.resume();
  const client = new TtrpcClient(ours);
  const calls = Array.from({ length: CALLS_MAX }, () =>
    errorOf(client.call('test.Echo', 'Echo', Buffer.alloc(0))),
  );
  const refused = await errorOf(client.call('test.Echo', 'Echo', Buffer.alloc(0)));
  assert.is(refused.code, Code.ResourceExhausted);
  client.close();
  for (const call of calls) assert.is((await call).code, Code.Unavailable);
});

test('a call ends when its signal is aborted, before or during it', async () => {
  await using pair = await startPair();
  const stop = new AbortController();
  const call = errorOf(pair.client.call('test.Echo', 'Never', Buffer.alloc(0), { signal: stop.signal }));
  stop.abort();
  assert.is((await call).code, Code.Canceled);
  const late = await errorOf(pair.client.call('test.Echo', 'Echo', Buffer.alloc(0), { signal: stop.signal }));
  assert.is(late.code, Code.Canceled);
});

test('losing the connection fails open and later calls, and aborts their handlers', async () => {
  await using pair = await startPair();
  const call = errorOf(pair.client.call('test.Echo', 'Never', Buffer.from('lost')));
  await pair.client.call('test.Echo', 'Echo', Buffer.alloc(0));
  const open = pair.client.call('test.Echo', 'Never', Buffer.alloc(0)).catch(() => undefined);
  await sleep(1);
  pair.socket.destroy();
  assert.is((await call).code, Code.Unavailable);
  await open;
  assert.is((await errorOf(pair.client.call('test.Echo', 'Echo', Buffer.alloc(0)))).code, Code.Unavailable);
  assert.is((await pair.client.closed).code, Code.Unavailable);
});

test('a message above 4 MiB is refused where it is made, and the connection lives on', async () => {
  await using pair = await startPair();
  const tooLong = Buffer.alloc(DATA_BYTES_MAX);
  assert.is((await errorOf(pair.client.call('test.Echo', 'Echo', tooLong))).code, Code.ResourceExhausted);
  assert.is(
    (await errorOf(pair.client.call('test.Echo', 'Large', Buffer.alloc(0)))).code,
    Code.ResourceExhausted,
  );
  const whole = Buffer.alloc(DATA_BYTES_MAX - 100, 1);
  assert.ok((await pair.client.call('test.Echo', 'Echo', whole)).equals(whole));
});

test('a frame above 4 MiB is answered with ResourceExhausted, and the next one served', async () => {
  await using pair = await startPair();
  const header = Buffer.from(
    encodeFrame({ streamId: 1, type: FrameType.Request, flags: 0, data: Buffer.alloc(0) }),
  );
  header.writeUInt32BE(DATA_BYTES_MAX + 1, 0);
  const frames = await pair.raw(
    Buffer.concat([header, Buffer.alloc(DATA_BYTES_MAX + 1), requestFrame(3, 'Echo')]),
    2,
  );
  assert.equal(
    frames.map(({ streamId, type }) => [streamId, type]),
    [
      [1, FrameType.Response],
      [3, FrameType.Response],
    ],
  );
  assert.match(frames[0]?.data.toString('latin1') ?? '', /exceeds the maximum message size/);
});

test('even, reused and falling stream ids are refused', async () => {
  await using pair = await startPair();
  const ids = [5, 2, 5, 3, 7];
  const frames = await pair.raw(Buffer.concat(ids.map((id) => requestFrame(id, 'Echo'))), 5);
  const errors = frames.map(({ data }) => /must be odd|cannot be re-used/.exec(data.toString('latin1'))?.[0]);
  assert.equal(errors, [undefined, 'must be odd', 'cannot be re-used', 'cannot be re-used', undefined]);
});

test('a garbled request, unknown frame types and data for nobody leave the connection usable', async () => {
  await using pair = await startPair();
  const frame = (type: number, streamId: number, data: string): Buffer =>
    encodeFrame({ streamId, type, flags: 0, data: Buffer.from(data, 'hex') });
  const bytes = [frame(FrameType.Request, 1, 'ff'), frame(99, 3, '00'), frame(FrameType.Data, 1, '00')];
  const frames = await pair.raw(Buffer.concat([...bytes, requestFrame(3, 'Echo')]), 2);
  assert.equal(
    frames.map(({ streamId }) => streamId),
    [1, 3],
  );
});

test('no data frame is ever sent for unary calls', async () => {
  await using pair = await startPair();
  const methods = ['Echo', 'Fail', 'None', 'Large', 'Break'];
  const requests = methods.map((method, index) => requestFrame(2 * index + 1, method));
  const frames = await pair.raw(Buffer.concat(requests), methods.length);
  assert.ok(frames.every(({ type }) => type === FrameType.Response));
});

test.run();
