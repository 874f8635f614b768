import { createConnection, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type CallContext,
  Code,
  DATA_BYTES_MAX,
  type DecodedFrame,
  encodeFrame,
  FrameDecoder,
  FrameType,
  type Services,
  serve,
  TtrpcClient,
  TtrpcError,
} from 'ttrpc';
import { stringField } from 'ttrpc/protobuf';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('ttrpc calls');
const never = new Promise<Buffer>(() => undefined);
let lastContext: CallContext | undefined;
let lastSeen: string[] = [];

const services: Services = {
  'test.Echo': {
    Echo: (payload, context) => {
      lastContext = context;
      return payload;
    },
    Later: async (payload) => {
      await sleep(1);
      return payload;
    },
    Never: (_payload, context) => {
      lastContext = context;
      return never;
    },
    Large: () => Buffer.alloc(DATA_BYTES_MAX),
    Fail: () => {
      throw new TtrpcError(Code.NotFound, 'no such thing', {
        details: [{ typeUrl: 'test/Detail', value: Buffer.from('why') }],
      });
    },
    Break: async () => {
      throw new Error('broken');
    },
    Count: {
      serverStreams: true,
      handle: async (stream) => {
        for await (const request of stream)
          for (let number = 0; number < Number(request.toString()); number++)
            await stream.send(Buffer.from(`${number}`));
        return undefined;
      },
    },
    Sum: {
      serverStreams: false,
      handle: async (stream) => {
        let sum = 0;
        for await (const message of stream) sum += Number(message.toString());
        return Buffer.from(`${sum}`);
      },
    },
    Talk: {
      serverStreams: true,
      handle: async (stream) => {
        lastSeen = [];
        for await (const message of stream) {
          lastSeen.push(message.toString());
          await stream.send(message);
          if (message.toString() === 'stop') throw new TtrpcError(Code.Aborted, 'told to stop');
        }
        return undefined;
      },
    },
    Flood: {
      serverStreams: true,
      handle: async (stream) => {
        for (let count = 0; count < 10_000; count++) await stream.send(Buffer.alloc(1000));
        return undefined;
      },
    },
  },
};

interface Pair extends AsyncDisposable {
  readonly client: TtrpcClient;
  readonly socket: Socket;
  /** Sends raw bytes on a connection of its own, and gives the frames that are answered. */
  raw(bytes: Buffer, answers: number): Promise<DecodedFrame[]>;
}

async function startPair(): Promise<Pair> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    serve(socket, services);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const socket = createConnection(port, '127.0.0.1');
  const client = new TtrpcClient(socket);
  return {
    client,
    socket,
    raw: async (bytes, answers) => {
      const raw = createConnection(port, '127.0.0.1');
      const decoder = new FrameDecoder();
      const frames: DecodedFrame[] = [];
      raw.write(bytes);
      for await (const chunk of raw) {
        decoder.feed(chunk as Buffer);
        frames.push(...decoder.collect());
        if (frames.length >= answers) break;
      }
      return frames;
    },
    [Symbol.asyncDispose]: async () => {
      client.close();
      for (const accepted of sockets) accepted.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function errorOf(promise: Promise<unknown>): Promise<TtrpcError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.instance(error, TtrpcError);
  return error as TtrpcError;
}

async function collect(stream: AsyncIterable<Buffer>): Promise<string[]> {
  const texts: string[] = [];
  for await (const message of stream) texts.push(message.toString());
  return texts;
}

test('call() gives the answer, with metadata and time limit seen by the handler', async () => {
  await using pair = await startPair();
  const metadata = { 'Containerd-Namespace-TTRPC': 'k8s.io', many: ['a', 'b'] };
  const answer = await pair.client.call('test.Echo', 'Echo', Buffer.from('hello'), {
    timeoutMs: 5000,
    metadata,
  });
  assert.is(answer.toString(), 'hello');
  assert.equal(
    [...(lastContext?.metadata ?? [])],
    [
      ['containerd-namespace-ttrpc', ['k8s.io']],
      ['many', ['a', 'b']],
    ],
  );
  assert.is(lastContext?.timeoutMs, 5000);
  assert.ok(lastContext?.signal.aborted, 'the signal ends with the call');
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
  while (!lastContext?.signal.aborted) await sleep(1);
  assert.is((await pair.client.call('test.Echo', 'Echo', Buffer.from('x'))).toString(), 'x');
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
  await sleep(1);
  assert.is((await pair.client.call('test.Echo', 'Echo', Buffer.from('x'))).toString(), 'x');
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

function requestFrame(streamId: number, method: string, flags = 0): Buffer {
  const data = Buffer.concat([stringField(1, 'test.Echo'), stringField(2, method)]);
  return encodeFrame({ streamId, type: FrameType.Request, flags, data });
}

test.run();
