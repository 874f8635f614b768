// time limit: 180 s
// Both sides against containerd's own ttrpc library in Go, streams included, which containerd's socket does not serve.
import { execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createConnection, createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import {
  type ClientStream,
  Code,
  type ServerStream,
  type Services,
  serve,
  TtrpcClient,
  TtrpcError,
} from 'ttrpc';
import { bytesField, readFields } from 'ttrpc/protobuf';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { failureOf } from '../../support/pull-site.ts';
import { canRun } from '../../support/real/components.ts';
import { makeTemporaryRoot } from '../../support/real/temporary-root.ts';

const test = suite('ttrpc and its Go library');
const root = makeTemporaryRoot('got');
const program = join(root.path, 'go-ttrpc');
test.after(() => root.remove());

/** Why the library cannot be had here, or null. */
function build(): string | null {
  const source = resolve(import.meta.dirname, '../../support/go-ttrpc');
  const env = { ...process.env, CGO_ENABLED: '0' };
  const run = spawnSync('go', ['build', '-o', program, '.'], { cwd: source, env, encoding: 'utf8' });
  if (run.error !== undefined) return 'needs Go (https://go.dev/dl)';
  return run.status === 0 ? null : `go build failed: ${run.stderr.split('\n')[0]}`;
}

/** Payloads are `google.protobuf.BytesValue`. */
const wrap = (text: string): Buffer => bytesField(1, Buffer.from(text));
function unwrap(message: Buffer): string {
  let text = '';
  readFields(message, ({ bytes }) => {
    text = bytes.toString();
  });
  return text;
}

async function collect(stream: AsyncIterable<Buffer>): Promise<string[]> {
  const texts: string[] = [];
  for await (const message of stream) texts.push(unwrap(message));
  return texts;
}

async function* textsOf(stream: ServerStream): AsyncGenerator<string> {
  for await (const message of stream) yield unwrap(message);
}

const services: Services = {
  'test.Echo': {
    Echo: (payload) => payload,
    Fail: () => {
      throw new TtrpcError(Code.NotFound, 'no such thing');
    },
    Metadata: (_payload, { metadata }) => wrap((metadata.get('key') ?? []).join(',')),
    Never: () => new Promise(() => undefined),
    Count: {
      serverStreams: true,
      handle: async (stream) => {
        for await (const text of textsOf(stream)) for (const _each of text) await stream.send(wrap(text));
        return undefined;
      },
    },
    Sum: {
      serverStreams: false,
      handle: async (stream) => {
        let all = '';
        for await (const text of textsOf(stream)) all += text;
        return wrap(all);
      },
    },
    Talk: {
      serverStreams: true,
      handle: async (stream) => {
        for await (const text of textsOf(stream)) {
          if (text === 'stop') throw new TtrpcError(Code.Aborted, 'told to stop');
          await stream.send(wrap(text));
        }
        return undefined;
      },
    },
  },
};

const expected = `Echo OK "hello" 5
Echo OK "xxxxxxxxxxxxxxxxxxxx" 4194204
Fail NotFound "" 0
None Unimplemented "" 0
Metadata OK "a,b" 3
Never DeadlineExceeded "" 0
Count "abc"
Count "abc"
Count "abc"
Count end
Sum OK "onetwo"
Talk "hi"
Talk end
Talk "hi"
Talk told to stop
`;

if (canRun(build())) {
  test('their client gets from our server what it gets from theirs', async () => {
    const socketPath = root.socketPath('ours.sock');
    const server = createServer((socket) => void serve(socket, services)).listen(socketPath);
    await once(server, 'listening');
    const ours = (await promisify(execFile)(program, ['call', socketPath])).stdout;
    await new Promise((done) => server.close(done));
    await using theirs = await startTheirs();
    const { stdout } = await promisify(execFile)(program, ['call', theirs.socketPath]);
    assert.is(stdout, expected);
    assert.is(ours, expected);
  });

  test('our client makes unary calls to their server', async () => {
    await using theirs = await startTheirs();
    const { client } = theirs;
    const call = async (method: string, text: string, metadata = {}): Promise<string> =>
      unwrap(await client.call('test.Echo', method, wrap(text), { timeoutMs: 10_000, metadata }));
    const long = 'x'.repeat((4 << 20) - 100);
    assert.is(await call('Echo', long), long);
    assert.is(await call('Metadata', '', { Key: ['a', 'b'] }), 'a,b');
    const failed = await failureOf(call('Fail', ''));
    assert.equal([failed.code, failed.message], [Code.NotFound, 'no such thing']);
    const late = await failureOf(client.call('test.Echo', 'Never', wrap(''), { timeoutMs: 50 }));
    assert.is(late.code, Code.DeadlineExceeded);
    const texts = Array.from({ length: 100 }, (_, index) => `message ${index}`);
    assert.equal(await Promise.all(texts.map((text) => call('Echo', text))), texts);
  });

  test('our client streams to and from their server', async () => {
    await using theirs = await startTheirs();
    const { client } = theirs;
    const counted = client.openStream('test.Echo', 'Count', { request: wrap('ab') });
    assert.equal(await collect(counted), ['ab', 'ab']);
    const summed = client.openStream('test.Echo', 'Sum', { clientStreams: true });
    for (const text of ['one', '', 'two']) await summed.send(wrap(text));
    await summed.closeSend();
    assert.equal(await collect(summed), ['onetwo']);
    const talked = client.openStream('test.Echo', 'Talk', { clientStreams: true });
    await talked.send(wrap('hi'));
    await talked.closeSend();
    assert.equal(await collect(talked), ['hi']);
  });

  test('an error of their server ends the stream of our client, which sends nothing more', async () => {
    await using theirs = await startTheirs();
    const stream: ClientStream = theirs.client.openStream('test.Echo', 'Talk', { clientStreams: true });
    await stream.send(wrap('stop'));
    const error = await failureOf(collect(stream));
    assert.equal([error.code, error.message], [Code.Aborted, 'told to stop']);
    assert.is((await failureOf(stream.send(wrap('late')))).code, Code.Aborted);
    const answer = await theirs.client.call('test.Echo', 'Echo', wrap('still there'));
    assert.is(unwrap(answer), 'still there');
  });
}

test.run();

async function startTheirs(): Promise<
  AsyncDisposable & { readonly client: TtrpcClient; readonly socketPath: string }
> {
  const socketPath = root.socketPath(`theirs${Math.floor(performance.now())}.sock`);
  const child = spawn(program, ['serve', socketPath], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  const client = new TtrpcClient(createConnection(socketPath));
  return {
    client,
    socketPath,
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit');
      client.close();
      child.stdin.end();
      await ended;
    },
  };
}
