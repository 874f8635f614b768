import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Badness, BadPeer } from '../support/bad-peer.ts';
import { sampleBlob } from '../support/blob-origin.ts';
import { digestOfFile, HOST, PeerWorld, pull } from '../support/peer-nodes.ts';

const MIB = 1024 * 1024;
const BADNESS: readonly Badness[] = ['silent', 'mute', 'lying', 'slow', 'flaky', 'oversize', 'garbage'];

async function withBadPeer(
  badness: Badness,
  sizeBytes: number,
  body: (world: PeerWorld, bad: BadPeer, blob: ReturnType<typeof sampleBlob>) => Promise<void>,
): Promise<void> {
  const blob = sampleBlob(sizeBytes);
  const bad = await BadPeer.start(badness, blob, HOST);
  try {
    await PeerWorld.run([blob], async (world) => {
      world.addStranger(bad.self);
      await body(world, bad, blob);
    });
  } finally {
    await bad.close();
  }
}

for (const badness of BADNESS) {
  test(`a pull succeeds beside a ${badness} peer`, async () => {
    await withBadPeer(badness, 20 * MIB, async (world, bad, blob) => {
      const nodes = await world.addNodes(2, { limits: { originBytesPerSecond: 30e6, dialTimeoutMs: 300 } });
      await Promise.all(nodes.map((node) => bad.visit(node.self)));
      const startMs = performance.now();
      await Promise.all(nodes.map((node) => pull(node, blob)));
      const seconds = (performance.now() - startMs) / 1000;
      const askedFor = badness !== 'silent' && badness !== 'mute';
      assert.is(bad.requests > 0, askedFor, `${bad.requests} chunks were asked of it`);
      assert.ok(seconds < 12, `${seconds.toFixed(1)} s`);
    });
  });
}

test('a peer that sends wrong bytes is found, dropped and not asked again', async () => {
  await withBadPeer('lying', 40 * MIB, async (world, bad, blob) => {
    const node = await world.addNode({ limits: { originBytesPerSecond: 30e6 } });
    await bad.visit(node.self);
    await pull(node, blob);
    const { peerBadChunks } = node.engine.counters;
    assert.ok(peerBadChunks >= 1, 'no wrong byte was noticed');
    assert.is(node.engine.swarmSnapshot()?.banned, 1);
    const requestsBefore = bad.requests;
    await node.cache.dropIdle();
    await pull(node, blob);
    assert.is(bad.requests, requestsBefore, 'it was asked again');
  });
});

test('wrong bytes with hashes that fit are found by the digest, and the origin is read again', async () => {
  await withBadPeer('poisoning', 20 * MIB, async (world, bad, blob) => {
    const node = await world.addNode({ limits: { originBytesPerSecond: 10e6 } });
    await bad.visit(node.self);
    let transfer = node.open(blob);
    await transfer.finished;
    assert.ok(bad.requests > 0, 'nothing was asked of it');
    assert.is.not(digestOfFile(transfer.path), blob.digest);
    transfer = await transfer.distrust();
    await transfer.finished;
    assert.is(digestOfFile(transfer.path), blob.digest);
    assert.is(transfer.counts.peerBytes, 0);
    assert.is(transfer.counts.originBytes, blob.bytes.length);
    await transfer.confirm();
    transfer.release();
  });
});

test.run();
