// ttrpc and NRI's multiplexer against the real thing: containerd's ttrpc socket, which serves the events of its shims, and its
// NRI socket. The containerd that CONTAINERD names (1.7, 2.1, 2.4).
import { spawn } from 'node:child_process';
import { createConnection, type Socket } from 'node:net';
import {
  Code,
  DATA_BYTES_MAX,
  type DecodedFrame,
  encodeFrame,
  FrameDecoder,
  FrameType,
  serve,
  TtrpcClient,
} from 'ttrpc';
import { bytesField, stringField, varintField } from 'ttrpc/protobuf';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { PLUGIN_CONNECTION, RUNTIME_CONNECTION } from '../../nri/mux.ts';
import { MuxConnection } from '../../nri/mux-connection.ts';
import { encodeRegisterPlugin, PLUGIN_SERVICE, RUNTIME_SERVICE } from '../../nri/nri-messages.ts';
import { nriSocketOf } from '../support/nri.ts';
import { eventually, failureOf } from '../support/pull-site.ts';
import { canRun, componentPath, containerdSkipReason } from '../support/real/components.ts';
import { type Containerd, startContainerd } from '../support/real/containerd.ts';
import { testedVersion } from '../support/real/import-site.ts';

const EVENTS = 'containerd.services.events.ttrpc.v1.Events';
const metadata = { 'containerd-namespace-ttrpc': 'k8s.io' };

const test = suite(`ttrpc with containerd ${testedVersion}`);
let containerd: Containerd;

if (canRun(containerdSkipReason(testedVersion))) {
  test.before(async () => {
    containerd = await startContainerd({ version: testedVersion });
  });
  test.after(() => containerd.stop());

  test('a call is carried out: an event that is forwarded reaches a subscriber', async () => {
    const watcher = spawn(
      `${componentPath(`containerd-${testedVersion}`)}/ctr`,
      ['--address', containerd.socket, '--namespace', 'k8s.io', 'events'],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    );
    try {
      let seen = '';
      watcher.stdout.setEncoding('utf8').on('data', (text: string) => (seen += text));
      const client = connectClient();
      const text = await eventually(
        async () => {
          await client.call(EVENTS, 'Forward', forwardRequest('/tasks/conformance'), {
            metadata,
            timeoutMs: 5000,
          });
          return seen;
        },
        (output) => output.includes('conformance-id'),
      );
      assert.match(text, /k8s\.io \/tasks\/conformance .*conformance-id/);
      client.close();
    } finally {
      watcher.kill('SIGKILL');
    }
  });

  test('errors come with their codes, and the connection lives on', async () => {
    const client = connectClient();
    const calls = [
      [EVENTS, 'None', Buffer.alloc(0), Code.Unimplemented, 'method None'],
      ['no.Service', 'Forward', Buffer.alloc(0), Code.Unimplemented, 'service no.Service'],
    ] as const;
    for (const [service, method, payload, code, message] of calls) {
      const error = await failureOf(client.call(service, method, payload, { metadata }));
      assert.equal([error.code, error.message], [code, message]);
    }
    // An event without a topic is refused by the service itself.
    const refused = await failureOf(client.call(EVENTS, 'Forward', forwardRequest(''), { metadata }));
    assert.type(refused.code, 'number');
    await client.call(EVENTS, 'Forward', forwardRequest('/tasks/after'), { metadata });
    client.close();
  });

  test('many calls at once, and one of nearly 4 MiB', async () => {
    const client = connectClient();
    const some = Array.from({ length: 200 }, (_, index) => forwardRequest(`/tasks/t${index}`));
    const large = forwardRequest('/tasks/large', 'x'.repeat(DATA_BYTES_MAX - 1000));
    const answers = await Promise.all(
      [...some, large].map((request) =>
        client.call(EVENTS, 'Forward', request, { metadata, timeoutMs: 20_000 }),
      ),
    );
    assert.ok(answers.every(({ length }) => length === 0));
    client.close();
  });

  test('a frame above 4 MiB is answered with ResourceExhausted, and the next call served', async () => {
    const socket = createConnection(`${containerd.socket}.ttrpc`);
    const data = Buffer.concat([stringField(1, 'no.Service'), stringField(2, 'X')]);
    const header = encodeFrame({ streamId: 1, type: FrameType.Request, flags: 0, data: Buffer.alloc(0) });
    header.writeUInt32BE(DATA_BYTES_MAX + 1, 0);
    const next = encodeFrame({ streamId: 3, type: FrameType.Request, flags: 0, data });
    socket.write(Buffer.concat([header, Buffer.alloc(DATA_BYTES_MAX + 1), next]));
    const frames = await readFrames(socket, 2);
    // Response.status.code is field 1 of field 1.
    assert.equal([frames[0]?.streamId, frames[0]?.data[3]], [1, Code.ResourceExhausted]);
    assert.equal([frames[1]?.streamId, frames[1]?.data[3]], [3, Code.Unimplemented]);
    socket.destroy();
  });

  for (const sizeBytes of [100, 4096, 20_000, 900_000, 2_000_000, DATA_BYTES_MAX - 1000]) {
    test(`the NRI multiplexer carries an answer of ${sizeBytes} bytes`, async () => {
      const socket = createConnection(nriSocketOf(containerd));
      const mux = new MuxConnection(socket, [PLUGIN_CONNECTION, RUNTIME_CONNECTION]);
      const synchronized = Promise.withResolvers<void>();
      const server = serve(mux.channel(PLUGIN_CONNECTION), {
        [PLUGIN_SERVICE]: {
          // A field that nobody knows makes the answer as long as wanted.
          Configure: () => Buffer.concat([varintField(2, 1), bytesField(1000, Buffer.alloc(sizeBytes))]),
          Synchronize: () => {
            synchronized.resolve();
            return Buffer.alloc(0);
          },
        },
      });
      const client = new TtrpcClient(mux.channel(RUNTIME_CONNECTION));
      await client.call(RUNTIME_SERVICE, 'RegisterPlugin', encodeRegisterPlugin('size', '50'), {
        timeoutMs: 5000,
      });
      const outcome = await Promise.race([synchronized.promise.then(() => 'synchronized'), server.closed]);
      assert.is(outcome, 'synchronized');
      client.close();
    });
  }
}

test.run();

function connectClient(): TtrpcClient {
  return new TtrpcClient(createConnection(`${containerd.socket}.ttrpc`));
}

/** `ForwardRequest{envelope{timestamp, namespace, topic, event}}`, where the event is a `TaskOOM{container_id}`. */
function forwardRequest(topic: string, containerId = 'conformance-id'): Buffer {
  const oom = stringField(1, containerId);
  const event = Buffer.concat([stringField(1, 'containerd.events.TaskOOM'), bytesField(2, oom)]);
  const timestamp = bytesField(1, varintField(1, 1_700_000_000));
  const texts = [stringField(2, 'k8s.io'), stringField(3, topic)];
  return bytesField(1, Buffer.concat([timestamp, ...texts, bytesField(4, event)]));
}

async function readFrames(socket: Socket, count: number): Promise<DecodedFrame[]> {
  const decoder = new FrameDecoder();
  const frames: DecodedFrame[] = [];
  for await (const chunk of socket) {
    decoder.feed(chunk as Buffer);
    frames.push(...decoder.collect());
    if (frames.length >= count) break;
  }
  return frames;
}
