import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startCriServer } from '../../../shim/cri/cri-server.ts';
import { forwardStream } from '../../../shim/cri/forward-stream.ts';
import { connectUnix, Upstream } from '../../../shim/cri/upstream.ts';
import {
  CHAT,
  callUnary,
  EVENTS,
  grpcClient,
  STATUS,
  socketDirectory,
  startGrpcServer,
} from './grpc-peer.ts';

type Handlers = Parameters<typeof startGrpcServer>[1];

/** A CRI server in front of a gRPC server with these methods, and a client of it. */
async function through(handlers: Handlers) {
  const directory = await socketDirectory();
  const upstreamPath = join(directory.path, 'up.sock');
  const criPath = join(directory.path, 'cri', 'cri.sock');
  let server = await startGrpcServer(upstreamPath, handlers);
  const containerd = new Upstream('containerd', upstreamPath);
  const cri = await startCriServer({
    socketPath: criPath,
    containerd,
    onPullImage: (call) => forwardStream(call, containerd),
  });
  const client = grpcClient(criPath);
  return {
    client,
    criPath,
    stopUpstream: () => server.forceShutdown(),
    async restartUpstream() {
      server.forceShutdown();
      server = await startGrpcServer(upstreamPath, handlers);
    },
    async [Symbol.asyncDispose]() {
      client.close();
      await cri.close();
      containerd.close();
      server.forceShutdown();
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** Far more than all buffers on the way hold together. */
const UNREAD_BYTES_MAX = 16 << 20;

const echo: grpc.handleUnaryCall<Buffer, Buffer> = (call, reply) => reply(null, call.request);

test('forwardStream() passes bytes, metadata and trailers of a unary call both ways', async () => {
  const seen: grpc.Metadata[] = [];
  await using side = await through({
    [STATUS]: [
      'unary',
      ((call, reply) => {
        seen.push(call.metadata);
        const head = new grpc.Metadata();
        head.add('x-head', 'one');
        call.sendMetadata(head);
        const tail = new grpc.Metadata();
        tail.add('x-tail-bin', Buffer.from([0, 255, 7]));
        reply(null, Buffer.concat([call.request, call.request]), tail);
      }) satisfies grpc.handleUnaryCall<Buffer, Buffer>,
    ],
  });
  const metadata = new grpc.Metadata();
  metadata.add('x-many', 'a');
  metadata.add('x-many', 'b');
  metadata.add('x-raw-bin', Buffer.from([1, 2, 200]));
  const body = Buffer.from([0x9a, 0x06, 3, 1, 2, 3]);
  const answer = await callUnary(side.client, STATUS, body, { metadata });
  assert.equal(answer.bytes, Buffer.concat([body, body]));
  assert.is(seen[0]?.get('x-many').join(', '), 'a, b');
  assert.equal(seen[0]?.get('x-raw-bin'), [Buffer.from([1, 2, 200])]);
  assert.match(String(seen[0]?.get('user-agent')[0]), /grpc-node-js/);
  assert.equal(answer.headers?.get('x-head'), ['one']);
  assert.equal(answer.trailers?.get('x-tail-bin'), [Buffer.from([0, 255, 7])]);
});

test('forwardStream() passes a status with its message and details', async () => {
  await using side = await through({
    [STATUS]: [
      'unary',
      ((_call, reply) => {
        const metadata = new grpc.Metadata();
        metadata.add('grpc-status-details-bin', Buffer.from('details'));
        reply({ code: 5, details: 'no such thing: größer 100 %', metadata });
      }) satisfies grpc.handleUnaryCall<Buffer, Buffer>,
    ],
  });
  const { error } = await callUnary(side.client, STATUS, Buffer.alloc(0));
  assert.is(error?.code, 5);
  assert.is(error?.details, 'no such thing: größer 100 %');
  assert.equal(error?.metadata.get('grpc-status-details-bin'), [Buffer.from('details')]);
});

test('forwardStream() leaves a method that the upstream does not know unimplemented', async () => {
  await using side = await through({ [STATUS]: ['unary', echo] });
  const { error } = await callUnary(side.client, '/runtime.v1.ImageService/StreamImages', Buffer.alloc(0));
  assert.is(error?.code, grpc.status.UNIMPLEMENTED);
});

test('forwardStream() passes the deadline on', async () => {
  let remainingMs = Number.NaN;
  await using side = await through({
    [STATUS]: [
      'unary',
      ((call, reply) => {
        remainingMs = Number(call.getDeadline()) - Date.now();
        reply(null, Buffer.alloc(0));
      }) satisfies grpc.handleUnaryCall<Buffer, Buffer>,
    ],
  });
  await callUnary(side.client, STATUS, Buffer.alloc(0), { call: { deadline: Date.now() + 30_000 } });
  assert.ok(remainingMs > 20_000 && remainingMs <= 30_500, `${remainingMs} ms`);
});

test('forwardStream() cancels the call upstream when the caller gives up', async () => {
  const started = Promise.withResolvers<grpc.ServerUnaryCall<Buffer, Buffer>>();
  await using side = await through({
    [STATUS]: ['unary', ((call) => started.resolve(call)) satisfies grpc.handleUnaryCall<Buffer, Buffer>],
  });
  const answer = callUnary(side.client, STATUS, Buffer.alloc(0), {
    onCall: (call) => void started.promise.then(() => call.cancel()),
  });
  const call = await started.promise;
  await once(call, 'cancelled');
  assert.is((await answer).error?.code, grpc.status.CANCELLED);
});

test('forwardStream() carries messages of 16 MiB in both directions', async () => {
  await using side = await through({ [STATUS]: ['unary', echo] });
  const large = Buffer.alloc(16 << 20, 'large');
  const answer = await callUnary(side.client, STATUS, large);
  assert.is(answer.error, undefined);
  assert.ok(answer.bytes?.equals(large));
});

test('forwardStream() streams in both directions at once', async () => {
  await using side = await through({
    [CHAT]: [
      'bidi',
      ((call) => {
        call.on('data', (bytes) => call.write(bytes));
        call.on('end', () => call.end());
      }) satisfies grpc.handleBidiStreamingCall<Buffer, Buffer>,
    ],
  });
  const same = (bytes: Buffer) => bytes;
  const call = side.client.makeBidiStreamRequest(CHAT, same, same, new grpc.Metadata());
  for (const word of ['one', 'two', 'three']) {
    call.write(Buffer.from(word));
    const [bytes] = await once(call, 'data');
    assert.is(String(bytes), word);
  }
  call.end();
  const [status] = await once(call, 'status');
  assert.is(status.code, 0);
});

test('forwardStream() holds a fast upstream back when the caller does not read, and other calls go on', async () => {
  let written = 0;
  await using side = await through({
    [STATUS]: ['unary', echo],
    [EVENTS]: [
      'server',
      (async (call) => {
        const message = Buffer.alloc(64 << 10);
        call.once('cancelled', () => call.emit('drain'));
        while (!call.cancelled && written < UNREAD_BYTES_MAX) {
          written += message.length;
          if (!call.write(message)) await once(call, 'drain');
        }
      }) satisfies grpc.handleServerStreamingCall<Buffer, Buffer>,
    ],
  });
  const session = connectUnix(side.criPath);
  const call = session.request({
    ':method': 'POST',
    ':path': EVENTS,
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  call.end(Buffer.alloc(5));
  await once(call, 'response');
  let before = -1;
  while (before !== written) {
    before = written;
    await sleep(100);
  }
  assert.ok(written > 0 && written < UNREAD_BYTES_MAX, `${written} bytes were taken from the upstream`);
  assert.equal((await callUnary(side.client, STATUS, Buffer.from('x'))).bytes, Buffer.from('x'));
  session.destroy();
});

test('forwardStream() answers Unavailable with the reason while the upstream is gone, and works again after', async () => {
  await using side = await through({ [STATUS]: ['unary', echo] });
  assert.is((await callUnary(side.client, STATUS, Buffer.from('a'))).error, undefined);
  side.stopUpstream();
  const { error } = await callUnary(side.client, STATUS, Buffer.from('b'));
  assert.is(error?.code, grpc.status.UNAVAILABLE);
  assert.match(
    error?.details ?? '',
    /^Cannot reach containerd at ".*up\.sock": (ENOENT|ECONNREFUSED|the connection was lost)$/,
  );
  await side.restartUpstream();
  assert.is((await callUnary(side.client, STATUS, Buffer.from('c'))).error, undefined);
});

test('forwardStream() ends a running call with Unavailable when the upstream dies', async () => {
  const started = Promise.withResolvers<void>();
  await using side = await through({
    [EVENTS]: [
      'server',
      ((call) => {
        call.write(Buffer.from('first'));
        started.resolve();
      }) satisfies grpc.handleServerStreamingCall<Buffer, Buffer>,
    ],
  });
  const same = (bytes: Buffer) => bytes;
  const call = side.client.makeServerStreamRequest(EVENTS, same, same, Buffer.alloc(0), new grpc.Metadata());
  await once(call, 'data');
  const failed = once(call, 'error');
  side.stopUpstream();
  assert.is((await failed)[0].code, grpc.status.UNAVAILABLE);
});

test.run();
