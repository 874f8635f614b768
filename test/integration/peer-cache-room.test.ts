// What eviction leaves to peers that are pulling from this node.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { sampleBlob } from '../support/blob-origin.ts';
import { HOST, PeerWorld, pull } from '../support/peer-nodes.ts';

const MIB = 1024 * 1024;
const WAIT_MS = 10_000;

test('a blob that a peer is pulling is not evicted for size, and the peer needs no byte of the origin', async () => {
  const [wanted, other] = [sampleBlob(16 * MIB), sampleBlob(16 * MIB)];
  await PeerWorld.run([wanted, other], async (world) => {
    const holder = await world.addNode({
      cache: { capacityBytes: 16 * MIB },
      limits: { uploadBytesPerSecond: 8e6 },
    });
    const taker = await world.addNode();
    await pull(holder, wanted);
    const taken = pull(taker, wanted);
    await until(() => holder.engine.counters.servedChunks >= 1);
    await pull(holder, other);
    await until(() => holder.cache.get({ host: HOST, digest: other.digest }) === undefined);
    const { originBytes, peerBytes } = await taken;
    assert.equal([originBytes, peerBytes], [0, wanted.bytes.length]);
    assert.is(holder.cache.ownBytes, wanted.bytes.length);
    assert.is(holder.cache.evictedBytes.capacity, other.bytes.length);
  });
});

test.run();

async function until(isSo: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + WAIT_MS;
  while (!isSo() && performance.now() < deadlineMs) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.ok(isSo());
}
