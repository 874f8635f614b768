// time limit: 240 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startAgentBehind, startFront } from '../support/front.ts';
import { buildSampleImage, buildSandboxImage } from '../support/images/samples.ts';
import { startOriginSite } from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { startContainerd } from '../support/real/containerd.ts';
import { testedVersion } from '../support/real/import-site.ts';
import { type Kubelet, startKubelet } from '../support/real/kubelet.ts';

const LAYERS_BYTES = [6_000_000, 2_000_000];
const KEY = 'k8s.aliyun.com/image-accelerate-mode';
const OPTED_IN = { [KEY]: 'p2p' };
const USER_AGENT_OF_CONTAINERD = /^containerd\//;

if (canRun(containerdSkipReason(testedVersion, 'crictl-go', 'kubelet'))) {
  test('kubelet has opted-in pods pulled by the agent, and all others by containerd', async () => {
    await using node = await startKubeletNode();
    await using agent = await startAgentBehind(node.front, { containerd: node.containerd.socket });
    await using kubelet = await node.startKubelet();

    const byLabel = await node.push('by-label');
    await runPod(kubelet, { name: 'by-label', image: byLabel.reference, labels: OPTED_IN });
    assert.equal(node.pullersOf('by-label'), ['agent']);
    assert.is((await agent.status()).totals.originBytes, byLabel.baseBytes + byLabel.ownBytes);

    const byAnnotation = await node.push('by-annotation');
    await runPod(kubelet, { name: 'by-annotation', image: byAnnotation.reference, annotations: OPTED_IN });
    assert.equal(node.pullersOf('by-annotation'), ['agent']);

    const plain = await node.push('plain');
    await runPod(kubelet, { name: 'plain', image: plain.reference });
    assert.equal(node.pullersOf('plain'), ['containerd']);

    const optedOut = await node.push('opted-out');
    const marks = { labels: { [KEY]: 'off' }, annotations: OPTED_IN };
    await runPod(kubelet, { name: 'opted-out', image: optedOut.reference, ...marks });
    assert.equal(node.pullersOf('opted-out'), ['containerd']);
    const fetched = byLabel.baseBytes + byLabel.ownBytes + byAnnotation.ownBytes;
    assert.is((await agent.status()).totals.originBytes, fetched);
    assert.is(agent.log().match(/"message":"pulled"/g)?.length, 2);
  });

  test('kubelet starts and runs pods without an agent, which gets the pulls once it is there', async () => {
    await using node = await startKubeletNode();
    await using kubelet = await node.startKubelet();
    const before = await node.push('before');
    await runPod(kubelet, { name: 'before', image: before.reference, labels: OPTED_IN });
    assert.equal(node.pullersOf('before'), ['containerd']);

    await using agent = await startAgentBehind(node.front, { containerd: node.containerd.socket });
    const after = await node.push('after');
    await runPod(kubelet, { name: 'after', image: after.reference, labels: OPTED_IN });
    assert.equal(node.pullersOf('after'), ['agent']);
    assert.is((await agent.status()).totals.originBytes, after.baseBytes + after.ownBytes);

    await agent.stop();
    await node.front.waitForAgent('gone');
    const again = await node.push('again');
    await runPod(kubelet, { name: 'again', image: again.reference, labels: OPTED_IN });
    assert.equal(node.pullersOf('again'), ['containerd']);
  });
}

test.run();

/** A node as kubelet finds it at boot: containerd, and the front on the image socket. */
async function startKubeletNode() {
  await using stack = new AsyncDisposableStack();
  const origin = stack.use(await startOriginSite());
  using sandbox = await buildSandboxImage();
  const sandboxImage = (await origin.push(sandbox, 'pause')).reference;
  const containerd = stack.use(await startContainerd({ version: testedVersion, sandboxImage }));
  const front = stack.use(await startFront({ containerd: containerd.socket }));
  const owned = stack.move();
  return {
    containerd,
    front,
    startKubelet: () => startKubelet({ runtimeEndpoint: containerd.socket, imageEndpoint: front.socket }),
    /** Pushes an image with content of its own on a base that all of them share. */
    push: async (name: string) => {
      using image = await buildSampleImage({ layerSizesBytes: LAYERS_BYTES, seed: name });
      const { reference } = await origin.push(image, name);
      const baseBytes = image.layers[0]?.size ?? 0;
      return { reference, baseBytes, ownBytes: image.layerBytes - baseBytes };
    },
    /** Who fetched layers of the repository. */
    pullersOf: (repository: string) => {
      const requests = origin.gate.requests({ class: 'blob', method: 'GET', path: `/v2/${repository}/` });
      const names = requests.map(({ userAgent }) =>
        USER_AGENT_OF_CONTAINERD.test(userAgent ?? '') ? 'containerd' : 'agent',
      );
      return [...new Set(names)];
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function runPod(
  kubelet: Kubelet,
  pod: { name: string; image: string; labels?: Record<string, string>; annotations?: Record<string, string> },
): Promise<void> {
  kubelet.addPod({ ...pod, command: ['/bin/true'] });
  const container = await kubelet.waitForPod(pod.name, { state: 'CONTAINER_EXITED' });
  assert.match(container.imageRef, 'sha256:');
  kubelet.removePod(pod.name);
}
