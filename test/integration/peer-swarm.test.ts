import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { sampleBlob } from '../support/blob-origin.ts';
import { PeerWorld, pull } from '../support/peer-nodes.ts';

const MIB = 1024 * 1024;

test('four nodes that pull at once read the origin about once', async () => {
  const blob = sampleBlob(64 * MIB + 321);
  await PeerWorld.run([blob], async (world) => {
    const nodes = await world.addNodes(4, { limits: { originBytesPerSecond: 40e6 } });
    const counts = await Promise.all(nodes.map((node) => pull(node, blob)));
    const originBytes = world.origin.bytesSent;
    assert.ok(originBytes <= 1.1 * blob.bytes.length, `${originBytes} bytes were read at the origin`);
    for (const count of counts) assert.is(count.originBytes + count.peerBytes, blob.bytes.length);
    const served = nodes.reduce((sum, node) => sum + node.engine.counters.servedBytes, 0);
    assert.ok(served >= 2.8 * blob.bytes.length, `${served} bytes were served`);
  });
});

test('a late node gets everything from a peer that has it', async () => {
  const blob = sampleBlob(30 * MIB);
  await PeerWorld.run([blob], async (world) => {
    const [first, second] = await world.addNodes(2);
    assert.ok(first && second);
    await pull(first, blob);
    const before = world.origin.bytesSent;
    const counts = await pull(second, blob);
    assert.is(world.origin.bytesSent, before);
    assert.is(counts.peerBytes, blob.bytes.length);
  });
});

test.run();
