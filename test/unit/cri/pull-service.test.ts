import { once } from 'node:events';
import { connect } from 'node:http2';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import * as grpc from '@grpc/grpc-js';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, ShoalError } from '../../../shim/base/errors.ts';
import { startCriServer } from '../../../shim/cri/cri-server.ts';
import { writeField } from '../../../shim/cri/protobuf-reader.ts';
import type { PullHandler } from '../../../shim/cri/pull-handler.ts';
import type { CriPullRequest } from '../../../shim/cri/pull-request.ts';
import { createPullService } from '../../../shim/cri/pull-service.ts';
import { Upstream } from '../../../shim/cri/upstream.ts';
import { callUnary, grpcClient, PULL, socketDirectory, startGrpcServer } from './grpc-peer.ts';

const IMAGE = 'registry.test/app:1';
/** A PullImageRequest with a field that no CRI version has. */
const REQUEST = Buffer.concat([
  writeField(1, writeField(1, Buffer.from(IMAGE))),
  writeField(99, Buffer.from('later')),
]);
const RESPONSE = writeField(1, Buffer.from('sha256:from-containerd'));

type Pull = PullHandler['pull'];

async function serve(pull: Pull) {
  const directory = await socketDirectory();
  const upstreamPath = join(directory.path, 'up.sock');
  const criPath = join(directory.path, 'cri.sock');
  const upstreamCalls: grpc.ServerUnaryCall<Buffer, Buffer>[] = [];
  const handOvers: string[] = [];
  const server = await startGrpcServer(upstreamPath, {
    [PULL]: [
      'unary',
      ((call, reply) => {
        upstreamCalls.push(call);
        reply(null, RESPONSE);
      }) satisfies grpc.handleUnaryCall<Buffer, Buffer>,
    ],
  });
  const containerd = new Upstream('containerd', upstreamPath);
  const service = createPullService({
    containerd,
    handler: { pull },
    onHandOver: (reason, image) => handOvers.push(`${reason} ${image}`),
  });
  const cri = await startCriServer({ socketPath: criPath, containerd, onPullImage: service.onPullImage });
  const client = grpcClient(criPath);
  return {
    client,
    criPath,
    service,
    upstreamCalls,
    handOvers,
    async [Symbol.asyncDispose]() {
      client.close();
      await service.close();
      await cri.close();
      containerd.close();
      server.forceShutdown();
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** A pull that lasts until its signal says stop. */
const lasting =
  (aborted: (reason: unknown) => void): Pull =>
  (_request, signal) =>
    new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        aborted(signal.reason);
        reject(signal.reason);
      });
    });

test('createPullService() answers with the image reference of the handler', async () => {
  let seen: CriPullRequest | undefined;
  await using side = await serve(async (request) => {
    seen = request;
    return { kind: 'pulled', imageRef: 'sha256:ours' };
  });
  const answer = await callUnary(side.client, PULL, REQUEST);
  assert.equal(answer.bytes, writeField(1, Buffer.from('sha256:ours')));
  assert.is(seen?.image, IMAGE);
  assert.is(side.upstreamCalls.length, 0);
});

test('createPullService() hands over the request byte for byte with its metadata and the rest of its deadline', async () => {
  await using side = await serve(async () => ({ kind: 'handOver', reason: 'not-opted-in' }));
  const metadata = new grpc.Metadata();
  metadata.add('x-trace', '7');
  const answer = await callUnary(side.client, PULL, REQUEST, {
    metadata,
    call: { deadline: Date.now() + 20_000 },
  });
  assert.equal(answer.bytes, RESPONSE);
  const call = side.upstreamCalls[0];
  assert.equal(call?.request, REQUEST);
  assert.equal(call?.metadata.get('x-trace'), ['7']);
  const remainingMs = Number(call?.getDeadline()) - Date.now();
  assert.ok(remainingMs > 10_000 && remainingMs <= 20_000, `${remainingMs} ms`);
  assert.equal(side.handOvers, [`not-opted-in ${IMAGE}`]);
});

test('createPullService() hands over when the handler throws something that is no ShoalError', async () => {
  await using side = await serve(async () => {
    throw new TypeError('our own bug');
  });
  assert.equal((await callUnary(side.client, PULL, REQUEST)).bytes, RESPONSE);
  assert.equal(side.handOvers, [`internal ${IMAGE}`]);
});

test('createPullService() hands over a message that it cannot read', async () => {
  await using side = await serve(async () => ({ kind: 'pulled', imageRef: 'never' }));
  assert.equal((await callUnary(side.client, PULL, Buffer.from([0x0a, 0xff]))).bytes, RESPONSE);
  assert.is(side.handOvers.length, 1);
});

test('createPullService() reads a gzip message and hands it over compressed', async () => {
  let image = '';
  await using side = await serve(async (request) => {
    image = request.image;
    return { kind: 'handOver', reason: 'test' };
  });
  const zipped = gzipSync(REQUEST);
  const prefix = Buffer.alloc(5);
  prefix[0] = 1;
  prefix.writeUInt32BE(zipped.length, 1);
  const session = connect('http://localhost', { createConnection: () => createConnection(side.criPath) });
  const call = session.request({
    ':method': 'POST',
    ':path': PULL,
    'content-type': 'application/grpc',
    'grpc-encoding': 'gzip',
    te: 'trailers',
  });
  call.resume().end(Buffer.concat([prefix, zipped]));
  const [trailers] = await once(call, 'trailers');
  session.close();
  assert.is(trailers['grpc-status'], '0');
  assert.is(image, IMAGE);
  assert.equal(side.upstreamCalls[0]?.request, REQUEST);
});

const STATUSES: readonly [code: ErrorCode, status: number, message: RegExp][] = [
  [ErrorCode.NotFound, 5, /^failed to pull and unpack image "registry\.test\/app:1": .*: not found$/],
  [ErrorCode.Unauthorized, 2, /^failed to pull and unpack image .*pull access denied.*authorization failed/],
  [
    ErrorCode.Forbidden,
    2,
    /^failed to pull and unpack image .*failed to resolve image: unexpected status 403 Forbidden/,
  ],
  [ErrorCode.RegistryUnavailable, 2, /^RegistryUnavailable: failed to pull and unpack image/],
  [ErrorCode.RateLimited, 2, /^RegistryUnavailable: /],
  [ErrorCode.InvalidReference, 2, /^failed to parse image reference "registry\.test\/app:1": /],
  [ErrorCode.DigestMismatch, 2, /^failed to pull and unpack image /],
  [ErrorCode.Cancelled, 1, /context canceled$/],
];

for (const [code, status, message] of STATUSES) {
  test(`createPullService() answers ${code} with gRPC status ${status}`, async () => {
    await using side = await serve(async () => {
      throw new ShoalError(code, 'Cannot do "x": größer 100 %');
    });
    const { error } = await callUnary(side.client, PULL, REQUEST);
    assert.is(error?.code, status);
    assert.match(error?.details ?? '', message);
    assert.is(side.upstreamCalls.length, 0);
  });
}

test('createPullService() aborts the pull within a second when the caller gives up', async () => {
  const aborted = Promise.withResolvers<unknown>();
  await using side = await serve(lasting(aborted.resolve));
  let cancelledMs = 0;
  const answer = callUnary(side.client, PULL, REQUEST, {
    onCall: (call) => {
      setTimeout(() => {
        cancelledMs = performance.now();
        call.cancel();
      }, 50);
    },
  });
  const reason = await aborted.promise;
  assert.ok(performance.now() - cancelledMs < 1000);
  assert.is((reason as ShoalError).code, ErrorCode.Cancelled);
  assert.is((await answer).error?.code, grpc.status.CANCELLED);
});

test('createPullService() ends a pull at the deadline of the call with DeadlineExceeded', async () => {
  const aborted = Promise.withResolvers<unknown>();
  await using side = await serve(lasting(aborted.resolve));
  const session = connect('http://localhost', { createConnection: () => createConnection(side.criPath) });
  // A caller that sets a deadline and does not enforce it: the answer is the server's own.
  const call = session.request({ ':method': 'POST', ':path': PULL, 'grpc-timeout': '80m', te: 'trailers' });
  const frame = Buffer.alloc(5 + REQUEST.length);
  frame.writeUInt32BE(REQUEST.length, 1);
  REQUEST.copy(frame, 5);
  call.resume().end(frame);
  const [headers] = await once(call, 'response');
  session.close();
  assert.is(headers['grpc-status'], '4');
  await aborted.promise;
});

test('createPullService() answers Unavailable to running pulls when it closes', async () => {
  const aborted = Promise.withResolvers<unknown>();
  await using side = await serve(lasting(aborted.resolve));
  const answer = callUnary(side.client, PULL, REQUEST);
  setTimeout(() => void side.service.close(), 50);
  assert.is((await answer).error?.code, grpc.status.UNAVAILABLE);
});

test('createPullService() refuses a request above 16 MiB with ResourceExhausted', async () => {
  await using side = await serve(async () => ({ kind: 'pulled', imageRef: 'never' }));
  const { error } = await callUnary(side.client, PULL, Buffer.alloc((16 << 20) + 1));
  assert.is(error?.code, grpc.status.RESOURCE_EXHAUSTED);
});

test.run();
