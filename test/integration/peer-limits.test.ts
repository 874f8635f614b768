import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { sampleBlob } from '../support/blob-origin.ts';
import { type PeerNode, PeerWorld, pull } from '../support/peer-nodes.ts';

const RATE = 12e6;
/** Ten seconds at the rate. */
const SIZE_BYTES = 120e6;

/** Bytes per second over the time that the work takes, relative to the limit. */
async function share(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return SIZE_BYTES / ((performance.now() - startMs) / 1000) / RATE;
}

test('limits of the origin, of local consumers and of uploads hold within 5 % over 10 s', async () => {
  const blob = sampleBlob(SIZE_BYTES);
  await PeerWorld.run([blob], async (world) => {
    const finish = async (node: PeerNode) => {
      const transfer = node.open(blob);
      await transfer.finished;
      transfer.release();
    };
    const holder = await world.addNode({ limits: { uploadBytesPerSecond: RATE } });
    const taker = await world.addNode({ peers: { mayReadOrigin: false } });
    await pull(holder, blob);
    const alone = await PeerWorld.start([blob]);
    const reader = await alone.addNode({ limits: { originBytesPerSecond: RATE } });
    const apart = await PeerWorld.start([blob]);
    const consumer = await apart.addNode({ limits: { localBytesPerSecond: RATE } });
    try {
      const shares = await Promise.all([
        share(() => finish(taker)),
        share(() => finish(reader)),
        share(() => finish(consumer)),
      ]);
      for (const [index, name] of ['upload', 'origin', 'local'].entries()) {
        const found = shares[index] ?? 0;
        assert.ok(Math.abs(found - 1) <= 0.05, `${name}: ${(found * 100).toFixed(1)} % of the limit`);
      }
      assert.is(holder.engine.counters.servedBytes, SIZE_BYTES);
      assert.is(consumer.engine.counters.localBytes, SIZE_BYTES);
    } finally {
      await alone.close();
      await apart.close();
    }
  });
});

test('blobs above the download limit wait for their turn, and those in the cache do not', async () => {
  const blobs = [sampleBlob(6e6), sampleBlob(6e6), sampleBlob(6e6)];
  const [first, second, cached] = blobs as [(typeof blobs)[0], (typeof blobs)[0], (typeof blobs)[0]];
  await PeerWorld.run(blobs, async (world) => {
    const node = await world.addNode({ limits: { downloadsMax: 1, originBytesPerSecond: 8e6 } });
    await pull(node, cached);
    const transfers = [node.open(first), node.open(second)];
    const third = node.open(cached);
    await third.finished;
    assert.ok(transfers.every((transfer) => transfer.prefixBytes < transfer.sizeBytes));
    const other = await Promise.race(
      transfers.map((transfer, index) => transfer.finished.then(() => transfers[1 - index])),
    );
    assert.is(other?.prefixBytes, 0);
    await other?.finished;
    for (const transfer of [...transfers, third]) transfer.release();
  });
});

test.run();
