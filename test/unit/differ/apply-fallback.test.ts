import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startCriServer } from '../../../shim/cri/cri-server.ts';
import { forwardStream, type IncomingCall } from '../../../shim/cri/forward-stream.ts';
import { writeField } from '../../../shim/cri/protobuf-reader.ts';
import { readUnaryBody } from '../../../shim/cri/unary-body.ts';
import { Upstream } from '../../../shim/cri/upstream.ts';
import { APPLY_PATH, ApplyFallback } from '../../../shim/differ/apply-fallback.ts';
import { callUnary, grpcClient, socketDirectory, startGrpcServer } from '../cri/grpc-peer.ts';

/** More rounds than this are no rounds but a loop. */
const ROUNDS_MAX = 5;

test('a layer that containerd sends back is refused, so that its next differ applies it', async () => {
  await using site = await startSite();
  const answer = await site.apply(applyRequest('sha256:one', 'first'));
  assert.is(answer.error, undefined);
  assert.is(answer.bytes?.toString(), 'applied by walking');
  assert.equal(site.rounds(), [grpc.status.UNIMPLEMENTED]);
});

test('two layers at once, and one layer twice in turn, are not taken for one that comes back', async () => {
  await using site = await startSite();
  const requests = [applyRequest('sha256:one', 'first'), applyRequest('sha256:one', 'second')];
  const answers = await Promise.all(requests.map(site.apply));
  answers.push(await site.apply(applyRequest('sha256:one', 'first')));
  assert.equal(
    answers.map(({ error }) => error),
    [undefined, undefined, undefined],
  );
});

test.run();

/** What containerd 1.7 sends: a descriptor with a digest, and a mount with a source. */
function applyRequest(digest: string, source: string): Buffer {
  const [descriptor, mount] = [writeField(2, Buffer.from(digest)), writeField(2, Buffer.from(source))];
  return Buffer.concat([writeField(1, descriptor), writeField(2, mount)]);
}

/** A differ that applies nothing, and a diff service that asks that differ first, as containerd's does when told to. */
async function startSite() {
  const directory = await socketDirectory();
  const differPath = join(directory.path, 'differ', 'd.sock');
  const rounds: grpc.status[] = [];
  let asked = 0;
  const differ = grpcClient(differPath);
  const walk: grpc.handleUnaryCall<Buffer, Buffer> = async (call, reply) => {
    asked += 1;
    if (asked > ROUNDS_MAX) return reply({ code: grpc.status.INTERNAL, details: 'a loop' });
    const { error } = await callUnary(differ, APPLY_PATH, call.request);
    rounds.push(error?.code ?? grpc.status.OK);
    if (error?.code === grpc.status.UNIMPLEMENTED) reply(null, Buffer.from('applied by walking'));
    else reply({ code: error?.code ?? grpc.status.INTERNAL, details: 'the pull fails' });
  };
  const containerdPath = join(directory.path, 'c.sock');
  const server = await startGrpcServer(containerdPath, { [APPLY_PATH]: ['unary', walk as never] });
  const containerd = new Upstream('containerd', containerdPath);
  const fallback = new ApplyFallback(containerd);
  const handOver = async (call: IncomingCall): Promise<void> =>
    fallback.forward(call, call.headers, await readUnaryBody(call.stream));
  const cri = await startCriServer({
    socketPath: differPath,
    containerd,
    onPullImage: (call) => forwardStream(call, containerd),
    handlers: new Map([[APPLY_PATH, (call: IncomingCall) => void handOver(call)]]),
  });
  return {
    apply: (request: Buffer) => callUnary(differ, APPLY_PATH, request),
    rounds: () => rounds,
    async [Symbol.asyncDispose]() {
      differ.close();
      await cri.close();
      containerd.close();
      server.forceShutdown();
      await directory[Symbol.asyncDispose]();
    },
  };
}
