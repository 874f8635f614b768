// time limit: 300 s
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { PodNotice } from '../../shim/agent/control-protocol.ts';
import type { WarmEnd } from '../../shim/warm/warmer.ts';
import { type BuiltImage, buildImage } from '../support/images/build-image.ts';
import { randomBytes } from '../support/images/samples.ts';
import { podNotice, tellOfPods, watchResults, writePodConfig } from '../support/pod-notices.ts';
import {
  assertNothingLeft,
  eventually,
  failureOf,
  type NodeSite,
  type OriginSite,
  startNodeSite,
  startOriginSite,
} from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { pull, runContainer, runCrictl } from '../support/real/crictl.ts';
import { containerdState, testedVersion } from '../support/real/import-site.ts';

const LAYER_BYTES = 8_000_000;
const RATE = 12_000_000;
const WARM_TIMEOUT_MS = 40_000;
const USER = { username: 'kay', password: 'right-password' };
const CREDS = `${USER.username}:${USER.password}`;
const guarded = { basic: { user: USER.username, password: USER.password } };
/** What is free on the machine that tests run on is no matter of theirs. */
const warm = { freePercentMin: 0 };
const settings = { policy: { mode: 'opt-in' }, warm, log: { level: 'debug' } };

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

  test('a pod without the right to read gets nothing of what was warmed: absent for IfNotPresent, and refused', async () => {
    await using origin = await startOriginSite(guarded);
    await using node = await startNodeSite({ origin, agent: { settings } });
    const [first, second] = (await pushAll(origin, 'private', 2)) as [string, string];
    const pod = podNotice('owner', [first, second]);
    await tellOfPods(node.agent).notice(pod);
    // Nobody has shown credentials yet.
    await eventually(
      () => warmUpsEnded(node, 'refused'),
      (count) => count === 2,
    );
    assert.is(blobBytes(origin), 0);
    await pullAll(node, pod, [first], CREDS);
    await untilHeld(node, 1);

    origin.gate.reset();
    assert.ok(await isAbsent(node, second));
    assert.equal(await imageNames(node), [first]);
    const stranger = podNotice('stranger', []);
    const refusal = await failureOf(pullAll(node, stranger, [second]));
    assert.match(refusal.message, /pull access denied|authorization failed|401/);
    await failureOf(pullAll(node, stranger, [second], `${USER.username}:wrong`));
    assert.is(blobBytes(origin), 0);
    assert.equal(await imageNames(node), [first]);
    const started = await failureOf(
      runContainer({ endpoint: node.containerd.socket }, { image: second, command: ['/bin/true'] }),
    );
    assert.match(started.message, /not found/i);

    await pullAll(node, pod, [second], CREDS);
    assert.ok(blobBytes(origin) < LAYER_BYTES / 100, 'the owner has it from what was warmed');
    assert.not.match(node.agent.log(), USER.password);
  });

  test('a pull joins the warm-up of its image: each layer leaves the registry once', async () => {
    await using origin = await startOriginSite({ rateBytesPerSecond: RATE / 3 });
    await using node = await startNodeSite({ agent: { settings } });
    await using results = watchResults(node.agent);
    const [image, shared] = [await imageOf('joined'), await imageOf('joined', ['more'])];
    const [reference, other] = [
      (await origin.push(image, 'team/app')).reference,
      (await origin.push(shared, 'team/other')).reference,
    ];
    const limits = { limits: { throttleLimitMB: 2 } };
    const [pod, second] = [podNotice('pod', [reference], limits), podNotice('second', [other], limits)];
    const pods = tellOfPods(node.agent);
    await pods.notice(pod);
    // The warm-up that reads the layers is the one that the pull joins: one that gives way would leave in sockets what it had asked for.
    await eventually(
      () => blobBytes(origin),
      (bytes) => bytes > 0,
      WARM_TIMEOUT_MS,
    );
    await pods.notice(second);
    await eventually(
      () => blobBytes(origin),
      (bytes) => bytes > LAYER_BYTES / 2,
      WARM_TIMEOUT_MS,
    );
    await pullAll(node, pod, [reference]);
    await pullAll(node, second, [other]);
    const layerBytes = new Map([...image.layers, ...shared.layers].map(({ digest, size }) => [digest, size]));
    for (const [digest, size] of layerBytes)
      assert.ok(origin.gate.count({ class: 'blob', path: digest }).bytes <= size * 1.05, `${digest} once`);
    const [first] = results.seen;
    assert.ok((first?.bytes.origin ?? 0) >= 2 * LAYER_BYTES, JSON.stringify(first));
    assert.is(movedBytes(node, reference), 0, 'it waited, and moved and unpacked nothing a second time');
    await assertNothingLeft(node);
    image[Symbol.dispose]();
    shared[Symbol.dispose]();
  });

  test('warming gives way to the first pull', async () => {
    await using origin = await startOriginSite({ rateBytesPerSecond: RATE });
    await using node = await startNodeSite({ agent: { settings } });
    // Of three rounds together: one alone says little on a busy machine.
    let [aloneSeconds, besideSeconds] = [0, 0];
    for (const round of [1, 2, 3]) {
      const [alone] = (await pushAll(origin, `alone-${round}`, 1)) as [string];
      const images = await pushAll(origin, `first-${round}`, 3);
      aloneSeconds += await pullAll(node, podNotice(`alone-${round}`, []), [alone]);
      const pod = podNotice(`pod-${round}`, images, { limits: { warmAtOnce: 3 } });
      // The one pulled first is not the one that is warmed first.
      const last = images.at(-1) ?? '';
      await tellOfPods(node.agent).notice(pod);
      besideSeconds += await pullAll(node, pod, [last]);
      await tellOfPods(node.agent).remove(pod.podUid);
    }
    const ratio = besideSeconds / aloneSeconds;
    console.log(`first pull beside warming against alone: ${ratio.toFixed(2)}`);
    assert.ok(ratio < 1.2, `${besideSeconds} s against ${aloneSeconds} s`);
  });

  test('a warm-up that was paused goes on where it was, and a stopped agent leaves nothing', async () => {
    await using origin = await startOriginSite({ rateBytesPerSecond: RATE / 3 });
    await using node = await startNodeSite({ agent: { settings } });
    using image = await imageOf('paused');
    const { reference } = await origin.push(image, 'team/paused');
    const [other] = (await pushAll(origin, 'other', 1)) as [string];
    await tellOfPods(node.agent).notice(podNotice('pod', [reference]));
    await eventually(
      () => blobBytes(origin),
      (bytes) => bytes > LAYER_BYTES,
      WARM_TIMEOUT_MS,
    );
    await pullAll(node, podNotice('elsewhere', []), [other]);
    await untilHeld(node, 1);
    for (const { digest, size } of image.layers)
      assert.ok(
        origin.gate.count({ class: 'blob', path: digest }).bytes < size * 1.6,
        `${digest} not read twice`,
      );
    assert.is((await containerdState(node.containerd)).leases.length, 1);
    const { counts } = warmUps(node).at(-1) ?? {};
    assert.is(
      counts?.originBytes,
      image.layers.reduce((sum, { size }) => sum + size, 0),
    );
    node.agent.kill('SIGTERM');
    await node.agent.ended;
    await assertNothingLeft(node);
  });

  test('what is held survives a collection, goes with its pod, and is swept when the agent was killed', async () => {
    await using origin = await startOriginSite({ rateBytesPerSecond: RATE });
    await using node = await startNodeSite({ agent: { settings } });
    const images = await pushAll(origin, 'held', 2);
    const before = await containerdState(node.containerd);
    const tell = tellOfPods(node.agent);
    await tell.notice(podNotice('pod', images));
    await untilHeld(node, 2);
    const held = await containerdState(node.containerd);
    await collectGarbage(node);
    assert.equal(await containerdState(node.containerd), held);
    assert.is(held.blobs.length, before.blobs.length + 4);

    await tell.remove('pod-uid');
    await untilHeld(node, 0);
    await assertNothingLeft(node);
    await collectGarbage(node);
    assert.equal(await containerdState(node.containerd), before);

    const more = await pushAll(origin, 'killed', 2);
    origin.gate.reset();
    await tell.notice(podNotice('next', more));
    await eventually(
      () => blobBytes(origin),
      (bytes) => bytes > LAYER_BYTES * 1.5,
      WARM_TIMEOUT_MS,
    );
    node.agent.kill('SIGKILL');
    await node.agent.restart();
    await assertNothingLeft(node);
    await collectGarbage(node);
    assert.equal(await containerdState(node.containerd), before);
    assert.equal((await node.agent.status()).warming, { pods: 0, waiting: 0, running: 0, held: 0 });
  });

  test('a pull that names no pod follows the pods that list its image, and one that is off counts most', async () => {
    await using origin = await startOriginSite();
    await using node = await startNodeSite({ agent: { settings } });
    await using results = watchResults(node.agent);
    const [image] = (await pushAll(origin, 'listed', 1)) as [string];
    const tell = tellOfPods(node.agent);
    const pod = podNotice('pod', [image], { warm: false });
    const steps: [() => Promise<void>, string, string | undefined][] = [
      [async () => undefined, 'not-opted-in', undefined],
      [() => tell.notice(pod), 'accelerated', pod.podUid],
      [() => tell.notice(podNotice('off', [image], { mode: 'off' })), 'opted-out', 'off-uid'],
      [() => tell.sync(pod), 'accelerated', pod.podUid],
      [() => tell.remove(pod.podUid), 'not-opted-in', undefined],
    ];
    for (const [step, reason, podUid] of steps) {
      await step();
      await pull(node.cri, image);
      const told = results.seen.at(-1);
      assert.equal([told?.image, told?.reason, told?.podUid], [image, reason, podUid]);
    }
    await using again = watchResults(node.agent);
    await eventually(
      () => again.seen.length,
      (count) => count === steps.length,
    );
    assert.equal(again.seen, results.seen, 'who comes later is told what was');
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

/** Two layers that depend on the seed, and small ones besides. */
function imageOf(seed: string, more: readonly string[] = []): Promise<BuiltImage> {
  const big = [0, 1].map((layer) => ({
    entries: [{ name: `data-${layer}`, content: randomBytes(LAYER_BYTES, `${seed}-${layer}`) }],
  }));
  const small = more.map((name) => ({ entries: [{ name, content: name }] }));
  return buildImage({ layers: [...big, ...small], gzipLevel: 0 });
}

/** As kubelet does: one after the other, each with its pod. */
async function pullAll(
  node: NodeSite,
  pod: PodNotice,
  images: readonly string[],
  creds?: string,
): Promise<number> {
  const podConfigPath = writePodConfig(join(node.agent.directory, `${pod.name}.json`), pod);
  const startedMs = performance.now();
  for (const image of images)
    await pull(node.cri, image, { podConfigPath, ...(creds !== undefined && { creds }) });
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

function warmUpsEnded(node: NodeSite, outcome: string): number {
  return warmUps(node).filter((each) => each.outcome === outcome).length;
}

function warmUps(node: NodeSite): WarmEnd[] {
  const lines = node.agent.log().split('\n');
  return lines.filter((line) => line.includes('"warm-up ended"')).map((line) => JSON.parse(line));
}

/** What a pull moved itself, by its line in the log. */
function movedBytes(node: NodeSite, image: string): number {
  const lines = node.agent.log().split('\n');
  const line = lines.find((each) => each.includes('"pulled"') && each.includes(`"image":"${image}"`));
  const { originBytes, peerBytes, cacheBytes } = JSON.parse(line ?? '{}');
  return originBytes + peerBytes + cacheBytes;
}

function blobBytes({ gate }: OriginSite): number {
  return gate.count({ class: 'blob' }).bytes;
}

/** Deleting a lease and asking to wait for the collection is how containerd is made to collect. */
async function collectGarbage({ containerd }: NodeSite): Promise<void> {
  await containerd.ctr('leases', 'create', '--id', 'collect');
  await containerd.ctr('leases', 'delete', '--sync', 'collect');
}
