// time limit: 300 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { BuiltImage } from '../support/images/build-image.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import {
  eventually,
  type NodeSite,
  type OriginSite,
  startNodeSite,
  startOriginSite,
} from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { type Containerd, type ContainerdOptions, startContainerd } from '../support/real/containerd.ts';
import { findCrictl, pull, runContainer, runCrictl, runRealCrictl } from '../support/real/crictl.ts';
import { fileSystemSkipReason, loopFileSystem } from '../support/real/file-system.ts';
import { testedVersion } from '../support/real/import-site.ts';

const LAYERS_BYTES = [2_000_000, 1_000_000];
const DISK_BYTES = 512 * 2 ** 20;
/** What databases and logs of an empty containerd may grow by. */
const DISK_SLACK_BYTES = 1_000_000;
/** The transfer service of 2.x unpacks for overlayfs alone unless told otherwise; 1.7 has none. */
const LOCAL_PULL: ContainerdOptions =
  testedVersion === '1.7'
    ? {}
    : { extraConfig: { plugins: { 'io.containerd.cri.v1.images': { use_local_image_pull: true } } } };
const WHAT_IT_IS = ['/bin/sh', '-c', 'stat -c %s /data/0 && id -u'];

interface Kind {
  readonly name: string;
  readonly build: () => Promise<BuiltImage>;
  readonly byDigest?: boolean;
}

const kinds: readonly Kind[] = [
  {
    name: 'an OCI index with gzip, zstd and plain layers',
    build: () =>
      buildSampleImage({
        layerSizesBytes: LAYERS_BYTES,
        compression: ['gzip', 'zstd', 'none'],
        indexed: true,
      }),
  },
  {
    name: 'a Docker schema 2 image',
    build: () => buildSampleImage({ layerSizesBytes: LAYERS_BYTES, mediaTypes: 'docker' }),
  },
  {
    name: 'a Docker manifest list',
    build: () => buildSampleImage({ layerSizesBytes: LAYERS_BYTES, mediaTypes: 'docker', indexed: true }),
  },
  {
    name: 'an OCI index by digest',
    build: () => buildSampleImage({ layerSizesBytes: LAYERS_BYTES, indexed: true }),
    byDigest: true,
  },
  {
    name: 'an OCI manifest with a user and settings',
    build: () =>
      buildSampleImage({
        layerSizesBytes: LAYERS_BYTES,
        compression: 'zstd',
        config: { Cmd: ['/bin/sh'], User: '65534:65534', Env: ['A=b'], Labels: { a: 'b' } },
      }),
  },
];

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  for (const kind of kinds) {
    test(`${kind.name}: after a pull through the agent everything is as after containerd's own`, async () => {
      await using sites = await startSites(kind);
      const { node, rival, origin, image, reference } = sites;
      assert.is(await pull(node.cri, reference), image.config.digest);
      await assertByAgent(sites);
      assert.is(await pull({ endpoint: rival.socket }, reference), image.config.digest);
      assert.equal(await shown(node.containerd, reference), await shown(rival, reference));

      await assertRuns(node, reference, image);
      origin.gate.reset();
      assert.is(await pull({ endpoint: node.containerd.socket }, reference), image.config.digest);
      assert.is(origin.gate.count({ class: 'blob' }).requests, 0);
      assert.equal(await shown(node.containerd, reference), await shown(rival, reference));
      await assertRemovable(node, reference);
    });
  }

  test('a native snapshotter: the agent brings the blobs, containerd unpacks them', async () => {
    await using sites = await startSites(kinds[0] as Kind, { snapshotter: 'native', ...LOCAL_PULL });
    const { node, rival, origin, image, reference } = sites;
    assert.is(await pull(node.cri, reference), image.config.digest);
    await assertByAgent(sites);
    const blobs = origin.gate.requests({ class: 'blob', method: 'GET', path: '/v2/team/app/' });
    assert.equal(
      blobs.filter(({ userAgent }) => userAgent?.startsWith('containerd/')),
      [],
    );
    assert.is(await pull({ endpoint: rival.socket }, reference), image.config.digest);
    assert.equal(await shown(node.containerd, reference, 'native'), await shown(rival, reference, 'native'));
    await assertRuns(node, reference, image);
    await assertRemovable(node, reference, 'native');
  });

  test('a pinned image stays pinned when it is pulled again', async () => {
    await using sites = await startSites(kinds[0] as Kind);
    const { node, reference } = sites;
    await pull(node.cri, reference);
    const isPinned = async () =>
      (await runCrictl<{ image: { pinned: boolean } }>(node.cri, 'inspecti', reference)).image.pinned;
    for (const name of (await node.containerd.ctr('images', 'ls', '-q')).trim().split('\n'))
      await node.containerd.ctr('images', 'label', name, 'io.cri-containerd.pinned=pinned');
    assert.ok(await eventually(isPinned, (pinned) => pinned));
    await pull(node.cri, reference);
    assert.ok(await isPinned());
  });

  if (canRun(fileSystemSkipReason('ext4'))) {
    test('rmi of an image that came through the agent gives the disk back', async () => {
      await using disk = await loopFileSystem(DISK_BYTES, 'ext4');
      await using sites = await startSites(kinds[0] as Kind, { root: disk.path });
      const { node, image, reference } = sites;
      const beforeBytes = disk.usedBytes();
      await pull(node.cri, reference);
      assert.ok(disk.usedBytes() - beforeBytes > image.layerBytes);
      await assertRemovable(node, reference);
      const leftBytes = await eventually(
        () => disk.usedBytes() - beforeBytes,
        (bytes) => bytes < DISK_SLACK_BYTES,
      );
      assert.ok(leftBytes < DISK_SLACK_BYTES, `${leftBytes} bytes`);
    });
  }
}

test.run();

interface Sites extends AsyncDisposable {
  readonly origin: OriginSite;
  readonly image: BuiltImage;
  readonly reference: string;
  readonly node: NodeSite;
  /** The same containerd, without Shoal. */
  readonly rival: Containerd;
}

async function startSites(kind: Kind, containerd: ContainerdOptions = {}): Promise<Sites> {
  await using stack = new AsyncDisposableStack();
  const origin = stack.use(await startOriginSite());
  const image = stack.use(await kind.build());
  const pushed = await origin.push(image, 'team/app');
  const node = stack.use(await startNodeSite({ origin, containerd }));
  const { root: _, ...alike } = containerd;
  const rival = stack.use(await startContainerd({ version: testedVersion, ...alike }));
  const owned = stack.move();
  const reference = kind.byDigest ? pushed.digestReference : pushed.reference;
  return { origin, image, reference, node, rival, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function assertByAgent({ node, image }: Sites): Promise<void> {
  assert.is((await node.agent.status()).totals.originBytes, image.layerBytes);
}

/** All that people and tools can see of an image, without times. */
async function shown(containerd: Containerd, reference: string, snapshotter = 'overlayfs') {
  const cri = { endpoint: containerd.socket };
  const { images } = await runCrictl<{ images: { id: string }[] }>(cri, 'images');
  const inspected = await runCrictl<{ image: object; info: Record<string, string> }>(
    cri,
    'inspecti',
    reference,
  );
  const lines = async (...args: string[]) =>
    (await containerd.ctr(...args))
      .replaceAll(/,?shoal\.io\/[^,\s]*/g, '')
      .replaceAll(/\t[^\t\n]*(second|minute)s?( ago)?/g, '')
      .replaceAll(/[ \t]+/g, ' ')
      .split('\n')
      .sort();
  return {
    images: images.sort((a, b) => a.id.localeCompare(b.id)).filter((each) => isOf(each, reference)),
    inspected,
    crictl: findCrictl() === null ? undefined : await runRealCrictl(cri, 'images', reference),
    records: (await lines('images', 'ls')).filter((line) => !/\/pause|pinned=pinned/.test(line)),
    checked: (await lines('images', 'check', `--snapshotter=${snapshotter}`)).filter((line) =>
      line.includes('/team/app'),
    ),
    blobs: await lines('content', 'ls', `labels."containerd.io/distribution.source.127.0.0.1"==team/app`),
    snapshots: (await lines('snapshots', `--snapshotter=${snapshotter}`, 'ls')).filter(
      (line) => !line.includes('Active'),
    ),
  };
}

/** The sandbox image is there once a container has run, and only in one of the two. */
function isOf(image: object, reference: string): boolean {
  return JSON.stringify(image).includes(reference.replace(/(:v1|@.*)$/, ''));
}

async function assertRuns(node: NodeSite, reference: string, image: BuiltImage): Promise<void> {
  const cri = { endpoint: node.containerd.socket };
  const result = await runContainer(cri, { image: reference, command: WHAT_IT_IS });
  assert.is(result.exitCode, 0);
  assert.match(result.output, new RegExp(`^${LAYERS_BYTES[0]}\n(0|65534)\n$`));
  assert.match(JSON.stringify(await runCrictl(cri, 'inspecti', reference)), image.config.digest);
}

/** Removes all images, and nothing of them stays: no record, blob, snapshot, lease or ingest. */
async function assertRemovable(node: NodeSite, reference: string, snapshotter = 'overlayfs'): Promise<void> {
  const { images } = await runCrictl<{ images: { id: string }[] }>(node.cri, 'images');
  await runCrictl(node.cri, 'rmi', reference);
  for (const { id } of images) await runCrictl(node.cri, 'rmi', id);
  const count = async (...args: string[]) =>
    (await node.containerd.ctr(...args)).split('\n').filter((line) => /sha256:|127\.0\.0\.1|shoal/.test(line))
      .length;
  const left = await eventually(
    async () => [
      await count('images', 'ls', '-q'),
      await count('content', 'ls'),
      await count('snapshots', `--snapshotter=${snapshotter}`, 'ls'),
      await count('leases', 'ls'),
      await count('content', 'active'),
    ],
    (counts) => counts.every((each) => each === 0),
  );
  assert.equal(left, [0, 0, 0, 0, 0], 'images, blobs, snapshots, leases, ingests');
}
