// time limit: 240 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startAgentBehind, startFront } from '../support/front.ts';
import { buildSampleImage, buildSandboxImage } from '../support/images/samples.ts';
import { startOriginSite } from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { startContainerd } from '../support/real/containerd.ts';
import { writeHostsToml } from '../support/real/hosts-toml.ts';
import { testedVersion } from '../support/real/import-site.ts';
import { type Kubelet, startKubelet } from '../support/real/kubelet.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';

const P2P = 'registry.distributed.shoal.test:65001';
const RULE = '*.shoal.test';
// The front reads no file; it has this from the environment that it is started with.
process.env.SHOAL_FRONT_P2P_ADDRESSES = RULE;
const OPTED_IN = { 'k8s.aliyun.com/image-accelerate-mode': 'p2p' };

if (canRun(containerdSkipReason(testedVersion, 'crictl-go', 'kubelet'))) {
  test('kubelet runs pods with P2P addresses, and pulls the image of a second one no more', async () => {
    await using node = await startKubeletNode();
    await using kubelet = await startKubelet({
      runtimeEndpoint: node.containerd.socket,
      imageEndpoint: node.front.socket,
    });
    await using agent = await startAgentBehind(node.front, {
      containerd: node.containerd.socket,
      containerdConfigPath: node.configPath,
      settings: { p2p: { addresses: [RULE], v2: { cache: { directory: `${node.configPath}/cache` } } } },
    });
    for (const [repository, labels] of [
      ['accelerated', OPTED_IN],
      ['plain', {}],
    ] as const) {
      const image = await node.push(repository);
      await runPod(kubelet, { name: `${repository}-first`, image, labels });
      const asked = node.gate.count({ path: `/v2/${repository}/` }).requests;
      assert.ok(asked > 0, 'the origin was asked');
      await runPod(kubelet, { name: `${repository}-second`, image, labels });
      assert.is(node.gate.count({ path: `/v2/${repository}/` }).requests, asked, 'and not again');
    }
    assert.is(agent.log().match(/"message":"pulled"/g)?.length, 1);
    await agent.stop();
    await node.front.waitForAgent('gone');
    await runPod(kubelet, { name: 'alone', image: await node.push('alone'), labels: OPTED_IN });
  });
}

test.run();

/** A registry that the node knows by a name of its own, a containerd, and the front before it. */
async function startKubeletNode() {
  await using stack = new AsyncDisposableStack();
  const origin = stack.use(await startOriginSite());
  using sandbox = await buildSandboxImage();
  const sandboxImage = (await origin.push(sandbox, 'pause')).reference;
  const folder = stack.use(makeTemporaryRoot('kp2'));
  const configPath = folder.path;
  writeHostsToml({ configPath, registry: 'registry.shoal.test', server: origin.gate.url, hosts: [] });
  const containerd = stack.use(await startContainerd({ version: testedVersion, sandboxImage, configPath }));
  const front = stack.use(await startFront({ containerd: containerd.socket }));
  const owned = stack.move();
  return {
    ...{ containerd, front, configPath },
    gate: origin.gate,
    /** The P2P address of an image with content of its own. */
    push: async (repository: string) => {
      using image = await buildSampleImage({ layerSizesBytes: [2_000_000], seed: repository });
      await origin.push(image, repository);
      return `${P2P}/${repository}:v1`;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function runPod(
  kubelet: Kubelet,
  pod: { name: string; image: string; labels: Record<string, string> },
): Promise<void> {
  kubelet.addPod({ ...pod, command: ['/bin/true'], imagePullPolicy: 'IfNotPresent', restartPolicy: 'Never' });
  const container = await kubelet.waitForPod(pod.name, { state: 'CONTAINER_EXITED' });
  assert.match(container.imageRef, 'sha256:');
  kubelet.removePod(pod.name);
}
