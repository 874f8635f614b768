// time limit: 150 s
// Who has a layer's bytes once it is unpacked: containerd alone, or the cache alone, and never both.
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { pullToEnd, startAgent } from '../support/agent.ts';
import { freePort } from '../support/free-port.ts';
import { type BuiltImage, buildImage } from '../support/images/build-image.ts';
import { randomBytes } from '../support/images/samples.ts';
import {
  assertNothingLeft,
  eventually,
  type NodeSite,
  type NodeSiteOptions,
  type OriginSite,
  startNodeSite,
  startOriginSite,
} from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { pull, runCrictl } from '../support/real/crictl.ts';
import { testedVersion } from '../support/real/import-site.ts';

const MB = 1_000_000;
/** Where containerd's versions have it. */
const DISCARD = {
  plugins:
    testedVersion === '1.7'
      ? { 'io.containerd.grpc.v1.cri': { containerd: { discard_unpacked_layers: true } } }
      : { 'io.containerd.cri.v1.images': { discard_unpacked_layers: true } },
};

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test("a layer that is containerd's blob is one inode, peers get it from there, and rmi frees it", async () => {
    await using origin = await startOriginSite();
    await using world = await startWorld();
    using image = await imageOf('kept');
    const { reference } = await origin.push(image, 'team/kept');
    await pull(world.node.cri, reference);
    assert.equal(cachedFiles(world.node), []);
    const names = blobNames(image);
    for (const name of names) assert.is(statSync(join(contentDirectory(world.node), name)).nlink, 1);
    assert.is(await usedBytes(world.node), 0);
    await assertServedFromNode(world, origin, reference, image);
    await runCrictl(world.node.cri, 'rmi', reference);
    const left = await eventually(
      () => readdirSync(contentDirectory(world.node)).filter((name) => names.includes(name)),
      (found) => found.length === 0,
    );
    assert.equal(left, []);
    await assertNothingLeft(world.node);
  });

  for (const snapshotter of ['overlayfs', 'native'])
    test(`${snapshotter}, containerd discards unpacked layers: they stay the cache's, within its capacity`, async () => {
      await using origin = await startOriginSite();
      // One image, not two.
      const capacity = 14 * MB;
      await using world = await startWorld({ containerd: { snapshotter, extraConfig: DISCARD } }, capacity);
      using image = await imageOf('discarded');
      const { reference } = await origin.push(image, 'team/discarded');
      await pull(world.node.cri, reference);
      const kept = await eventually(
        () => readdirSync(contentDirectory(world.node)).filter((name) => blobNames(image).includes(name)),
        (found) => found.length === 0,
      );
      assert.equal(kept, [], 'containerd has none');
      assert.equal(cachedFiles(world.node).sort(), blobNames(image).sort(), 'the cache has all');
      assert.is(await usedBytes(world.node), image.layerBytes);
      using second = await imageOf('second');
      const { reference: next } = await origin.push(second, 'team/second');
      await pull(world.node.cri, next);
      const bytes = await eventually(
        () => usedBytes(world.node),
        (used) => used <= capacity,
      );
      assert.is(bytes, second.layerBytes, 'those of the first image have given way');
      await assertServedFromNode(world, origin, next, second);
      await assertNothingLeft(world.node);
    });
}

test.run();

interface World extends AsyncDisposable {
  /** With a containerd. */
  readonly node: NodeSite;
  /** Without one. */
  readonly peer: Awaited<ReturnType<typeof startAgent>>;
}

async function startWorld(options: NodeSiteOptions = {}, capacity = 100 * MB): Promise<World> {
  await using stack = new AsyncDisposableStack();
  const [one, other] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  const settings = { p2p: { v2: { cache: { capacity } } } };
  const agent = { listen: one, peers: [other], settings };
  const node = stack.use(await startNodeSite({ ...options, agent }));
  const peer = stack.use(await startAgent({ name: 'peer', listen: other, peers: [one] }));
  const owned = stack.move();
  return { node, peer, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The peer pulls what the node has: no layer byte comes from the registry. */
async function assertServedFromNode(
  { node, peer }: World,
  origin: OriginSite,
  reference: string,
  image: BuiltImage,
): Promise<void> {
  origin.gate.reset();
  const { counts } = await pullToEnd(peer.pull(reference));
  assert.is(counts.peerBytes, image.layerBytes, JSON.stringify(counts));
  assert.is((await node.agent.status()).totals.servedBytes, image.layerBytes);
}

/** Two layers of more than one chunk each, none of which another image has. */
function imageOf(seed: string): Promise<BuiltImage> {
  const layers = [6 * MB, 5 * MB].map((bytes) => ({
    entries: [{ name: `data-${bytes}`, content: randomBytes(bytes, `${seed}-${bytes}`) }],
  }));
  return buildImage({ layers, gzipLevel: 0 });
}

function blobNames(image: BuiltImage): string[] {
  return image.layers.map(({ digest }) => digest.slice('sha256:'.length));
}

function contentDirectory({ containerd }: NodeSite): string {
  return join(containerd.root, 'io.containerd.content.v1.content/blobs/sha256');
}

async function usedBytes({ agent }: NodeSite): Promise<number> {
  return (await agent.status()).cacheUsedBytes;
}

/** Digests of the layers whose bytes are in the cache's own files. */
function cachedFiles({ containerd }: NodeSite): string[] {
  return readdirSync(join(containerd.root, 'io.shoal.cache/v1'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.blob'))
    .map((name) => name.slice(name.lastIndexOf('/') + 1, -'.blob'.length));
}
