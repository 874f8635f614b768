// time limit: 180 s
// Plugin, agent and containerd together: a pull through the agent ends in an annotation of the container. The containerd that
// CONTAINERD names (1.7, 2.1, 2.4).
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { buildSampleImage } from '../support/images/samples.ts';
import { type NriPlugin, nriSocketOf, startNriPlugin } from '../support/nri.ts';
import { podFile, startTestPod } from '../support/nri-pods.ts';
import { type NodeSite, type OriginSite, startNodeSite, startOriginSite } from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { pull } from '../support/real/crictl.ts';
import { testedVersion } from '../support/real/import-site.ts';

const MODE = 'k8s.aliyun.com/image-accelerate-mode';
const RESULT = 'k8s.aliyun.com/p2p-result';
const optIn = { annotations: { [MODE]: 'p2p' } };
const LAYER_BYTES = 300_000;

interface Result {
  readonly accelerated: boolean;
  readonly reason?: string;
  readonly seconds?: number;
  readonly bytes?: { readonly origin: number; readonly peer: number; readonly cache: number };
}

const test = suite(`NRI plugin and agent on containerd ${testedVersion}`);
const stack = new AsyncDisposableStack();
let origin: OriginSite;
let node: NodeSite;
let plugin: NriPlugin;
let count = 0;

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test.before(async () => {
    origin = stack.use(await startOriginSite());
    node = stack.use(await startNodeSite({ origin, agent: { settings: { policy: { mode: 'opt-in' } } } }));
    const agentSocket = node.agent.controlSocket;
    plugin = stack.use(startNriPlugin({ nriSocket: nriSocketOf(node.containerd), agentSocket }));
    await plugin.waitForLine(/^Synchronized/);
    await plugin.waitForLine(/^Connected to the agent/);
  });
  test.after(() => stack.disposeAsync());

  test('a container shows what its pull through the agent has cost', async () => {
    await using pod = await startTestPod(node.containerd, 'fast', optIn);
    const image = await pushImage();
    await pullFor(image, 'fast', optIn);
    const { accelerated, seconds, bytes } = resultOf(await pod.createContainer(image));
    assert.is(accelerated, true);
    assert.ok((seconds ?? 0) > 0);
    assert.ok((bytes?.origin ?? 0) >= LAYER_BYTES, JSON.stringify(bytes));
  });

  test('a pod that opts out on a node where others do not shows nothing', async () => {
    const off = { labels: { [MODE]: 'off' } };
    await using pod = await startTestPod(node.containerd, 'off', off);
    const image = await pushImage();
    await pullFor(image, 'off', off);
    assert.is((await pod.createContainer(image))[RESULT], undefined);
  });

  test('a container of a pod that finds its image on the node shows how the node got it', async () => {
    const image = await pushImage();
    await pullFor(image, 'first', optIn);
    await using pod = await startTestPod(node.containerd, 'second', optIn);
    assert.is(resultOf(await pod.createContainer(image)).accelerated, true);
  });

  test('with the agent stopped pods start, and what is remembered is shown', async () => {
    const image = await pushImage();
    await using pod = await startTestPod(node.containerd, 'stopped', optIn);
    await pullFor(image, 'stopped', optIn);
    node.agent.kill('SIGSTOP');
    try {
      await using _another = await startTestPod(node.containerd, 'meanwhile', optIn);
      assert.is(resultOf(await pod.createContainer(image)).accelerated, true);
    } finally {
      node.agent.kill('SIGCONT');
    }
  });

  test('an agent that was killed is told all pods when it is back, and its results are shown', async () => {
    await using pod = await startTestPod(node.containerd, 'outlived', optIn);
    const connections = [...plugin.log().matchAll(/^Connected to the agent/gm)].length;
    node.agent.kill('SIGKILL');
    await node.agent.restart();
    await plugin.waitForLine(/^Connected to the agent/, connections + 1);
    const image = await pushImage();
    await pullFor(image, 'outlived', optIn);
    assert.is(resultOf(await pod.createContainer(image)).accelerated, true);
  });
}

test.run();

/** An image of its own for each test, so that it has to be pulled. */
async function pushImage(): Promise<string> {
  using image = await buildSampleImage({ layerSizesBytes: [LAYER_BYTES], seed: `nri ${++count}` });
  return (await origin.push(image, `team/app${count}`)).reference;
}

/** As kubelet does it: with the configuration of the pod's sandbox. */
async function pullFor(
  image: string,
  name: string,
  marks: Parameters<typeof startTestPod>[2],
): Promise<void> {
  using file = podFile(name, marks);
  await pull(node.cri, image, { podConfigPath: file.path });
}

function resultOf(annotations: Readonly<Record<string, string>>): Result {
  return JSON.parse(annotations[RESULT] ?? 'null') as Result;
}
