// time limit: 180 s
// The cache on a small disk of its own that somebody else fills: pulls end right, and nothing is damaged.
import { rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { pullToEnd, startAgent } from '../support/agent.ts';
import { freePort } from '../support/free-port.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import {
  assertNothingLeft,
  eventually,
  type NodeSite,
  startNodeSite,
  startOriginSite,
} from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { pull } from '../support/real/crictl.ts';
import { fileSystemSkipReason, loopFileSystem } from '../support/real/file-system.ts';
import { testedVersion } from '../support/real/import-site.ts';

const MB = 1_000_000;
/** The agent looks at its disk every 10 s. */
const CHECK_WAIT_MS = 20_000;

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  if (canRun(fileSystemSkipReason('ext4')))
    test('a cache disk that others fill within a pull: containerd pulls, and after a kill nothing is damaged', async () => {
      await using disk = await loopFileSystem(60 * MB, 'ext4');
      await using origin = await startOriginSite({ rateBytesPerSecond: 8 * MB });
      const listen = `127.0.0.1:${await freePort()}`;
      const peerListen = `127.0.0.1:${await freePort()}`;
      const options = { listen, peers: [peerListen], ...cacheIn(disk.path) };
      await using node = await startNodeSite({ containerd: DISCARDING, agent: options });
      using small = await imageOf(3 * MB, 'small');
      const before = await origin.push(small, 'team/small');
      await pull(node.cri, before.reference);
      using image = await imageOf(24 * MB, 'cut');
      const { reference } = await origin.push(image, 'team/cut');
      origin.gate.reset();
      const pulled = pull(node.cri, reference);
      await eventually(
        () => origin.gate.count({ class: 'blob' }).bytes,
        (sent) => sent > 8 * MB,
      );
      fill(disk.path, 100);
      assert.is(await pulled, image.config.digest);
      assert.match(node.agent.log(), /"handOver","reason":"CACHE_UNAVAILABLE"/);
      await assertNothingLeft(node);
      origin.gate.setRate(undefined);
      fill(disk.path, 100);
      node.agent.kill('SIGKILL');
      await node.agent.restart();
      rmSync(join(disk.path, 'other'));
      await using peer = await startAgent({ name: 'peer', listen: peerListen, peers: [listen] });
      using next = await imageOf(5 * MB, 'next');
      const after = await origin.push(next, 'team/next');
      assert.is(await pull(node.cri, after.reference), next.config.digest);
      assert.ok((await usedBytes(node)) > 5 * MB, 'caching has begun again');
      const { counts } = await pullToEnd(peer.pull(after.reference));
      assert.ok(counts.peerBytes > 5 * MB, JSON.stringify(counts));
      assert.is((await pullToEnd(peer.pull(reference))).imageId, image.config.digest);
    });

  test('above high water idle layers go, and the next pull goes on without being kept', async () => {
    await using disk = await loopFileSystem(60 * MB, 'tmpfs');
    await using origin = await startOriginSite();
    await using node = await startNodeSite({ containerd: DISCARDING, agent: cacheIn(disk.path) });
    using image = await imageOf(9 * MB, 'idle');
    await pull(node.cri, (await origin.push(image, 'team/idle')).reference);
    assert.is(await usedBytes(node), image.layerBytes);
    fill(disk.path, 82);
    const log = await eventually(
      () => node.agent.log(),
      (text) => text.includes('dropped idle layers'),
      CHECK_WAIT_MS,
    );
    assert.match(log, /"reason":"highWater".*dropped idle layers from the cache/);
    assert.ok((await usedBytes(node)) < image.layerBytes);
    fill(disk.path, 85);
    using next = await imageOf(5 * MB, 'next');
    const pulled = await pull(node.cri, (await origin.push(next, 'team/next')).reference);
    assert.is(pulled, next.config.digest);
    assert.not.match(node.agent.log(), 'handOver');
    const kept = await eventually(
      () => usedBytes(node),
      (used) => used === 0,
    );
    assert.is(kept, 0);
    const full = await eventually(
      () => node.agent.log(),
      (text) => text.includes('the disk is above high water'),
    );
    assert.match(full, 'the disk is above high water');
    await assertNothingLeft(node);
  });
}

test.run();

/** Else layers would be containerd's, and the cache have none. */
const DISCARDING = {
  extraConfig: {
    plugins:
      testedVersion === '1.7'
        ? { 'io.containerd.grpc.v1.cri': { containerd: { discard_unpacked_layers: true } } }
        : { 'io.containerd.cri.v1.images': { discard_unpacked_layers: true } },
  },
};

function imageOf(sizeBytes: number, seed: string) {
  return buildSampleImage({ layerSizesBytes: [sizeBytes], seed });
}

function cacheIn(directory: string) {
  return { settings: { p2p: { v2: { cache: { directory: join(directory, 'cache') } } } } };
}

/** Somebody else's file takes the place of the last one, and the disk is used to so many percent. */
function fill(directory: string, percent: number): void {
  const path = join(directory, 'other');
  rmSync(path, { force: true });
  const { blocks, bavail, bsize } = statfsSync(directory);
  const bytes = Math.floor((blocks * percent) / 100 - (blocks - bavail)) * bsize;
  try {
    writeFileSync(path, Buffer.alloc(Math.max(0, bytes)));
    if (percent === 100) writeFileSync(path, Buffer.alloc(blocks * bsize), { flag: 'a' });
  } catch {
    // It is full, which was wanted.
  }
}

async function usedBytes({ agent }: NodeSite): Promise<number> {
  return (await agent.status()).cacheUsedBytes;
}
