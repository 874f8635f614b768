// time limit: 120 s
import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { thisPlatform } from '../support/images/build-image.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import {
  assertNothingLeft,
  eventually,
  type NodeSite,
  type OriginSite,
  startNodeSite,
  startOriginSite,
} from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { pull, runContainer, runCrictl } from '../support/real/crictl.ts';
import { loopFileSystem } from '../support/real/file-system.ts';
import { containerdState, testedVersion } from '../support/real/import-site.ts';

const MB = 1_000_000;
/** What containerd's own databases may grow by. */
const DATABASE_BYTES = MB;
const IDLE_RSS_BYTES_MAX = 120 * 2 ** 20;
/** From 2.1 on, containerd unpacks only for the snapshotters that are listed here. */
const UNPACK_NATIVE = {
  plugins: {
    'io.containerd.transfer.v1.local': {
      unpack_config: [{ platform: `linux/${thisPlatform().architecture}`, snapshotter: 'native' }],
    },
  },
};
const IDLE_WAIT_MS = 30_000;

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test('an accelerated image is complete, runs, and is nothing new to containerd', async () => {
    await using origin = await startOriginSite();
    await using node = await startNodeSite({ origin });
    using image = await buildSampleImage({
      layerSizesBytes: [3 * MB, MB, 0.5 * MB],
      compression: ['gzip', 'zstd', 'none', 'gzip'],
      indexed: true,
    });
    const { reference, digestReference } = await origin.push(image, 'team/app');
    assert.is(await pull(node.cri, reference), image.config.digest);
    assertAccelerated(node, 1);
    const checked = await node.containerd.ctr('images', 'check', `name==${reference}`);
    assert.match(checked, /complete \(5\/5\).*true/);
    await assertShown(node, [reference, digestReference]);
    const command = ['/bin/sh', '-c', 'stat -c %s /data/0; id -u'];
    const run = await runContainer(node.cri, { image: reference, command });
    assert.equal([run.exitCode, run.output], [0, `${3 * MB}\n0\n`]);
    origin.gate.reset();
    assert.is(await pull({ endpoint: node.containerd.socket }, reference), image.config.digest);
    assert.is(origin.gate.count({ class: 'blob' }).requests, 0);
    await assertNothingLeft(node);
  });

  test('rmi frees the disk', async () => {
    await using disk = await loopFileSystem(400 * MB, 'ext4');
    await using origin = await startOriginSite();
    await using node = await startNodeSite({
      containerd: { root: disk.path },
      agent: { settings: { p2p: { v2: { cache: { directory: '' } } } } },
    });
    const small = await pullAndRemove(origin, node, MB, 'small');
    assert.match(small, 'sha256:');
    const emptyBytes = disk.usedBytes();
    using image = await buildSampleImage({ layerSizesBytes: [30 * MB, 20 * MB], seed: 'big' });
    const { reference } = await origin.push(image, 'team/big');
    await pull(node.cri, reference);
    assertAccelerated(node, 2);
    const fullBytes = disk.usedBytes();
    assert.ok(fullBytes - emptyBytes > 100 * MB, 'blobs and trees take room');
    assert.ok(fullBytes - emptyBytes < 110 * MB, `${fullBytes - emptyBytes} bytes: a third copy was kept`);
    await runCrictl(node.cri, 'rmi', reference);
    const wanted = emptyBytes + DATABASE_BYTES;
    const leftBytes = await eventually(
      () => disk.usedBytes(),
      (bytes) => bytes < wanted,
    );
    assert.ok(leftBytes < wanted, `${leftBytes - emptyBytes} bytes more than before`);
    const { images, blobs, snapshots } = await containerdState(node.containerd);
    assert.equal([images, blobs, snapshots], [[], [], []]);
  });

  test('an image pulled again after rmi is whole again', async () => {
    await using origin = await startOriginSite();
    await using node = await startNodeSite({ origin });
    using image = await buildSampleImage({ layerSizesBytes: [5 * MB], seed: 'again' });
    const { reference } = await origin.push(image, 'team/again');
    for (let round = 1; round <= 3; round += 1) {
      assert.is(await pull(node.cri, reference), image.config.digest);
      assertAccelerated(node, round);
      assert.match(await node.containerd.ctr('images', 'check', `name==${reference}`), /complete.*true/);
      await runCrictl(node.cri, 'rmi', reference);
    }
    await assertNothingLeft(node);
  });

  test('a snapshotter that is not ours to write to: containerd unpacks what we fetched', async () => {
    await using origin = await startOriginSite();
    await using node = await startNodeSite({
      origin,
      containerd: { snapshotter: 'native', ...(testedVersion !== '1.7' && { extraConfig: UNPACK_NATIVE }) },
    });
    using image = await buildSampleImage({ layerSizesBytes: [5 * MB], seed: 'native' });
    const { reference } = await origin.push(image, 'team/native');
    assert.is(await pull(node.cri, reference), image.config.digest);
    const { bytes } = origin.gate.count({ class: 'blob' });
    assert.ok(bytes < image.layerBytes + 0.1 * MB, `${bytes} bytes: layers were fetched twice`);
    assert.ok((await node.agent.status()).totals.originBytes === image.layerBytes);
    const run = await runContainer(node.cri, { image: reference, command: ['/bin/true'] });
    assert.is(run.exitCode, 0);
    await assertNothingLeft(node);
  });

  test('an agent that has pulled and rests needs at most 120 MB', async () => {
    await using origin = await startOriginSite();
    await using node = await startNodeSite();
    await pullAndRemove(origin, node, 40 * MB, 'rss');
    const rssBytes = await eventually(
      () => rssOf(node.agent.pid),
      (bytes) => bytes <= IDLE_RSS_BYTES_MAX,
      IDLE_WAIT_MS,
    );
    process.stdout.write(`idle after a pull: ${Math.round(rssBytes / 2 ** 20)} MiB\n`);
    assert.ok(rssBytes <= IDLE_RSS_BYTES_MAX, `${Math.round(rssBytes / 2 ** 20)} MiB`);
  });
}

test.run();

async function pullAndRemove(
  origin: OriginSite,
  node: NodeSite,
  sizeBytes: number,
  seed: string,
): Promise<string> {
  using image = await buildSampleImage({ layerSizesBytes: [sizeBytes], seed });
  const { reference } = await origin.push(image, `team/${seed}`);
  const id = await pull(node.cri, reference);
  assertAccelerated(node, 1);
  await runCrictl(node.cri, 'rmi', reference);
  return id;
}

function assertAccelerated(node: NodeSite, times: number): void {
  assert.is(
    node.agent.log().split('"message":"pulled"').length - 1,
    times,
    'pulls that went through the agent',
  );
}

async function assertShown({ cri }: NodeSite, names: readonly string[]): Promise<void> {
  const { images } = await runCrictl<{ images: { repoTags: string[]; repoDigests: string[] }[] }>(
    cri,
    'images',
  );
  assert.equal(
    images.flatMap(({ repoTags, repoDigests }) => [...repoTags, ...repoDigests]),
    names,
  );
}

function rssOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}
