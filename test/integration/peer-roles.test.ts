import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { sampleBlob } from '../support/blob-origin.ts';
import { PeerWorld, pull } from '../support/peer-nodes.ts';

const MIB = 1024 * 1024;
const agent = { peers: { mayReadOrigin: false } };

test('an agent does not read the origin beside a root, and has the blob as soon as the root has it', async () => {
  const blob = sampleBlob(12 * MIB);
  await PeerWorld.run([blob], async (world) => {
    const root = await world.addNode({ limits: { originBytesPerSecond: 20e6 } });
    const taker = await world.addNode(agent);
    const transfer = taker.open(blob);
    const early = await Promise.race([
      transfer.finished,
      new Promise((resolve) => setTimeout(resolve, 3_000, 'waits')),
    ]);
    assert.is(early, 'waits');
    assert.is(world.origin.requests, 0);
    await pull(root, blob);
    await transfer.finished;
    assert.equal(transfer.counts, { originBytes: 0, peerBytes: blob.bytes.length, cacheBytes: 0 });
    transfer.release();
  });
});

test('agents that know of no root read the origin themselves, about once', async () => {
  const blob = sampleBlob(24 * MIB);
  await PeerWorld.run([blob], async (world) => {
    const nodes = await world.addNodes(3, { ...agent, limits: { originBytesPerSecond: 20e6 } });
    await Promise.all(nodes.map((node) => pull(node, blob)));
    assert.ok(
      world.origin.bytesSent <= 1.2 * blob.bytes.length,
      `${world.origin.bytesSent} bytes of the origin`,
    );
  });
});

test('an agent whose members cannot be reached reads the origin', async () => {
  const blob = sampleBlob(3 * MIB);
  await PeerWorld.run([blob], async (world) => {
    world.addStranger('127.0.0.1:1');
    const node = await world.addNode(agent);
    assert.is((await pull(node, blob)).originBytes, blob.bytes.length);
  });
});

test.run();
