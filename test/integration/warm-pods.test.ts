// time limit: 240 s
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { PodNotice } from '../../shim/agent/control-protocol.ts';
import { type BuiltImage, buildImage } from '../support/images/build-image.ts';
import { randomBytes } from '../support/images/samples.ts';
import { podNotice, tellOfPods, watchResults, writePodConfig } from '../support/pod-notices.ts';
import {
  assertNothingLeft,
  eventually,
  type NodeSite,
  type OriginSite,
  startNodeSite,
  startOriginSite,
} from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { pull, runCrictl } from '../support/real/crictl.ts';
import { containerdState, testedVersion } from '../support/real/import-site.ts';

const LAYER_BYTES = 8_000_000;
const RATE = 12_000_000;
const WARM_TIMEOUT_MS = 40_000;
/** What is free on the machine that tests run on is no matter of theirs. */
const warm = { freePercentMin: 0 };
const settings = { policy: { mode: 'opt-in' }, warm };

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test('three warm images are pulled in a fraction of the time, and were no images before', async () => {
    await using origin = await startOriginSite({ rateBytesPerSecond: RATE });
    await using node = await startNodeSite({ agent: { settings } });
    const cold = await pushAll(origin, 'cold', 3);
    const later = await pushAll(origin, 'warm', 3);
    const coldPod = podNotice('cold', cold);
    const coldSeconds = await pullAll(node, coldPod, cold);

    const before = await containerdState(node.containerd);
    const pod = podNotice('pod', later);
    await tellOfPods(node.agent).notice(pod);
    await untilHeld(node, 3);
    const { images, snapshots } = await containerdState(node.containerd);
    assert.equal(images, before.images, 'no image record comes of warming');
    assert.is(snapshots.length, before.snapshots.length + 6);
    assert.equal(await imageNames(node), cold.toSorted());
    assert.ok(await isAbsent(node, later[0] ?? ''));

    origin.gate.reset();
    await using results = watchResults(node.agent);
    const warmSeconds = await pullAll(node, pod, later);
    assert.ok(blobBytes(origin) < LAYER_BYTES / 100, 'only configs are read again');
    console.log(`cold ${coldSeconds.toFixed(2)} s, warm ${warmSeconds.toFixed(2)} s`);
    assert.ok(warmSeconds < coldSeconds / 2, `cold ${coldSeconds} s, warm ${warmSeconds} s`);
    assert.equal(await imageNames(node), [...cold, ...later].toSorted());
    const told = results.seen.filter(({ podUid }) => podUid === pod.podUid);
    assert.equal(
      told.map(({ image }) => image),
      later,
    );
    for (const { accelerated, reason, bytes, namespace } of told) {
      assert.equal([accelerated, reason, namespace], [true, 'accelerated', 'default']);
      assert.ok(bytes.origin > 2 * LAYER_BYTES, 'what was warmed counts');
    }
    await assertNothingLeft(node);
    await collectGarbage(node);
    assert.is((await containerdState(node.containerd)).snapshots.length, before.snapshots.length + 6);
  });
}

test.run();

async function pushAll(origin: OriginSite, name: string, count: number): Promise<string[]> {
  const references: string[] = [];
  for (let number = 0; number < count; number++) {
    using image = await imageOf(`${name}-${number}`);
    references.push((await origin.push(image, `team/${name}-${number}`)).reference);
  }
  return references;
}

function imageOf(seed: string): Promise<BuiltImage> {
  const layers = [0, 1].map((layer) => ({
    entries: [{ name: `data-${layer}`, content: randomBytes(LAYER_BYTES, `${seed}-${layer}`) }],
  }));
  return buildImage({ layers, gzipLevel: 0 });
}

/** As kubelet does: one after the other, each with its pod. */
async function pullAll(node: NodeSite, pod: PodNotice, images: readonly string[]): Promise<number> {
  const podConfigPath = writePodConfig(join(node.agent.directory, `${pod.name}.json`), pod);
  const startedMs = performance.now();
  for (const image of images) await pull(node.cri, image, { podConfigPath });
  return (performance.now() - startedMs) / 1000;
}

async function untilHeld(node: NodeSite, count: number): Promise<void> {
  const read = async () => (await node.agent.status()).warming.held;
  assert.is(await eventually(read, (held) => held === count, WARM_TIMEOUT_MS), count, node.agent.log());
}

async function imageNames(node: NodeSite): Promise<string[]> {
  const { images } = await runCrictl<{ images: { repoTags: string[] }[] }>(node.cri, 'images');
  return images.flatMap(({ repoTags }) => repoTags).sort();
}

async function isAbsent(node: NodeSite, image: string): Promise<boolean> {
  const status = await runCrictl<{ status?: unknown }>(node.cri, 'inspecti', image).catch(() => ({}));
  return !('status' in status) || status.status === undefined;
}

function blobBytes({ gate }: OriginSite): number {
  return gate.count({ class: 'blob' }).bytes;
}

/** Deleting a lease and asking to wait for the collection is how containerd is made to collect. */
async function collectGarbage({ containerd }: NodeSite): Promise<void> {
  await containerd.ctr('leases', 'create', '--id', 'collect');
  await containerd.ctr('leases', 'delete', '--sync', 'collect');
}
