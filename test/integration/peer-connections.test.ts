import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { blobKeyId } from '../../shim/base/blob-key.ts';
import { ErrorCode } from '../../shim/base/errors.ts';
import { encodeHello } from '../../shim/peer/frame.ts';
import { rankByRendezvous } from '../../shim/swarm/rendezvous.ts';
import { type SampleBlob, sampleBlob } from '../support/blob-origin.ts';
import { HOST, type PeerNode, PeerWorld, pull } from '../support/peer-nodes.ts';
import { eventually } from '../support/pull-site.ts';

const nonce = new Uint8Array(16);
const stranger = {
  versionMin: 1,
  versionMax: 1,
  self: '127.0.0.1:1',
  zone: '',
  nodeName: 'stranger',
  nonce,
  role: 1 as const,
};

/** Says `bytes` to the node and waits until it hangs up. */
async function say(node: PeerNode, bytes: Buffer): Promise<void> {
  const socket = connect(Number(node.self.split(':')[1]), '127.0.0.1');
  socket.on('error', () => undefined);
  socket.on('data', () => undefined);
  socket.write(bytes);
  await once(socket, 'close');
}

test('an engine does not start with plaintext where other machines can listen', async () => {
  await PeerWorld.run([], async (world) => {
    const listen = { host: '0.0.0.0', port: 0, insecure: false };
    const failure = await world.addNode({ peers: { listen } }).catch((error) => error);
    assert.is(failure.code, ErrorCode.ConfigInvalid);
    assert.match(failure.message, 'peers.insecure');
    const node = await world.addNode({ peers: { listen: { ...listen, insecure: true } } });
    assert.ok(node.self);
  });
});

test('an engine says which port it cannot listen on', async () => {
  await PeerWorld.run([], async (world) => {
    const node = await world.addNode();
    const port = Number(node.self.split(':')[1]);
    const listen = { host: '127.0.0.1', port, insecure: false };
    const failure = await world.addNode({ peers: { listen } }).catch((error) => error);
    assert.is(failure.code, ErrorCode.ListenFailed);
    assert.match(failure.message, String(port));
  });
});

test('strangers, other versions and borrowed names are hung up on, and the silent after the dial limit', async () => {
  await PeerWorld.run([], async (world) => {
    const node = await world.addNode({ limits: { dialTimeoutMs: 200 } });
    await say(node, Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n'));
    await say(node, encodeHello({ ...stranger, versionMin: 2, versionMax: 3 }));
    await say(node, encodeHello({ ...stranger, self: '10.1.2.3:65002' }));
    await say(node, encodeHello({ ...stranger, self: node.self }));
    await say(node, encodeHello({ ...stranger, self: 'no port' }));
    await say(node, Buffer.alloc(0));
    // The other side of a closed connection closes a little later.
    while (node.engine.connections > 0) await new Promise(setImmediate);
    assert.is(node.engine.counters.protocolErrors, 5);
  });
});

test('who was dialled and sends chunks dials back: its messages do not wait behind them', async () => {
  const blobs = Array.from({ length: 16 }, () => sampleBlob(3e6));
  await PeerWorld.run(blobs, async (world) => {
    const [holder, taker] = await world.addNodes(2);
    assert.ok(holder && taker);
    // The holder has nobody to dial then: it is its own directory.
    const isItsOwn = ({ digest }: SampleBlob) =>
      rankByRendezvous(blobKeyId({ host: HOST, digest }), [holder.self, taker.self], 1)[0] === holder.self;
    const blob = blobs.find(isItsOwn);
    assert.ok(blob);
    await pull(holder, blob);
    assert.is(holder.engine.counters.dials, 0);
    await pull(taker, blob);
    assert.is(taker.engine.counters.peerBytes, blob.bytes.length);
    const counts = () => [holder.engine.connections, taker.engine.connections].join(' ');
    assert.is(await eventually(counts, (found) => found === '2 2'), '2 2');
    assert.is(holder.engine.counters.dials, 1);
  });
});

test('a node that dies in the middle is replaced by the others', async () => {
  const blob = sampleBlob(60e6);
  await PeerWorld.run([blob], async (world) => {
    const limits = { originBytesPerSecond: 15e6 };
    const [first, second, doomed] = await world.addNodes(3, { limits });
    assert.ok(first && second && doomed);
    const transfer = doomed.open(blob);
    const pulls = [pull(first, blob), pull(second, blob)];
    await new Promise<void>((resolve) => transfer.onPrefix(() => resolve()));
    await doomed.close();
    await Promise.all(pulls);
    assert.ok(
      world.origin.bytesSent <= 1.6 * blob.bytes.length,
      `${world.origin.bytesSent} bytes of the origin`,
    );
  });
});

test('a node that was restarted in the middle fetches nothing twice', async () => {
  const blob = sampleBlob(60e6);
  await PeerWorld.run([blob], async (world) => {
    const node = await world.addNode({ limits: { originBytesPerSecond: 30e6 } });
    const transfer = node.open(blob);
    await new Promise<void>((resolve) => transfer.onPrefix((prefix) => prefix > 20e6 && resolve()));
    await node.close();
    const again = await world.addNode({}, node);
    const counts = await pull(again, blob);
    assert.ok(counts.cacheBytes > 20e6);
    assert.is(counts.cacheBytes + counts.originBytes, blob.bytes.length);
  });
});

test.run();
