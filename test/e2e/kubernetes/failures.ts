import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { eventually } from '../../support/pull-site.ts';
import type { KubeNode } from '../../support/real/kube-node.ts';
import {
  bringAgentBack,
  type ClusterSite,
  costOf,
  createPod,
  eventsOf,
  makeNamespace,
  OPTED_IN,
  type Pod,
  pullersOf,
  pullResultsOf,
  removeNamespace,
  startPod,
  waitUntilReady,
} from './site.ts';

const MEGABYTE = 1_000_000;
const LAYERS_BYTES = [40 * MEGABYTE, 20 * MEGABYTE];
/** The registry's uplink: six seconds for the image, so that the middle of a pull can be hit. */
const SLOW_BYTES_PER_SECOND = 10 * MEGABYTE;
const UNDER_WAY_BYTES = 8 * MEGABYTE;
const NAMESPACE = 'failures';
const UNDER_WAY_TIMEOUT_MS = 60_000;

/** Whatever of ours is missing or broken, pods start all the same; what it cost is told. */
export function testFailures(site: ClusterSite): void {
  const { cluster, ledger } = site;
  const node = cluster.nodes[0] as KubeNode;
  let healthySeconds = 0;
  const freshPod = async (name: string): Promise<Pod> => {
    const image = await cluster.registry.push(`${NAMESPACE}/${name}`, LAYERS_BYTES);
    return { name, namespace: NAMESPACE, image, labels: OPTED_IN, node };
  };

  test('with nothing broken an opted-in pod starts (what the failures are measured against)', async () => {
    await makeNamespace(site, NAMESPACE);
    // The base that all images share comes with this one.
    await startPod(site, await freshPod('first'));
    const pod = await freshPod('healthy');
    cluster.registry.gate.setRate(SLOW_BYTES_PER_SECOND);
    healthySeconds = await startPod(site, pod);
    ledger.add('one pod, 60 MB at 10 MB/s', healthySeconds, 'what the following are measured against');
    assert.equal(pullersOf(site, pod.image), ['agent']);
  });

  test('the agent is killed in the middle of a pull: the pod starts all the same', async () => {
    const pod = await freshPod('agent-killed');
    const startedMs = performance.now();
    await createPod(site, pod);
    await underWay(site, pod);
    node.agent.kill('SIGKILL');
    await waitUntilReady(site, pod);
    const seconds = (performance.now() - startedMs) / 1000;
    ledger.add('agent killed mid-pull', seconds, costOf(seconds, healthySeconds));
    assert.ok(pullersOf(site, pod.image).includes('containerd'));
    await bringAgentBack(node);
  });

  test('the agent is frozen in the middle of a pull: the pod starts all the same', async () => {
    const pod = await freshPod('agent-frozen');
    const startedMs = performance.now();
    await createPod(site, pod);
    await underWay(site, pod);
    node.agent.kill('SIGSTOP');
    await waitUntilReady(site, pod);
    const seconds = (performance.now() - startedMs) / 1000;
    ledger.add('agent frozen mid-pull', seconds, costOf(seconds, healthySeconds));
    node.agent.kill('SIGCONT');
    await node.front.waitForAgent('healthy');
  });

  test('kubelet starts while there is no agent: pods start', async () => {
    node.agent.kill('SIGTERM');
    await node.agent.ended;
    await node.kubelet.halt();
    await node.kubelet.start();
    const pod = await freshPod('agent-absent');
    const seconds = await startPod(site, pod);
    ledger.add('agent absent while kubelet starts', seconds, costOf(seconds, healthySeconds));
    assert.equal(pullersOf(site, pod.image), ['containerd']);
    const results = await pullResultsOf(node, NAMESPACE);
    assert.ok(
      results.some(({ accelerated, reason }) => accelerated === false && reason === 'agent-unreachable'),
    );
    await bringAgentBack(node);
    const after = await freshPod('agent-back');
    await startPod(site, after);
    assert.equal(pullersOf(site, after.image), ['agent']);
  });

  test('containerd is restarted in the middle of a pull: the pod starts', async () => {
    const pod = await freshPod('containerd-restarted');
    const startedMs = performance.now();
    await createPod(site, pod);
    await underWay(site, pod);
    await node.containerd.restart();
    await waitUntilReady(site, pod);
    const seconds = (performance.now() - startedMs) / 1000;
    ledger.add('containerd restarted mid-pull', seconds, costOf(seconds, healthySeconds));
  });

  for (const { state, signal } of [
    { state: 'frozen', signal: 'SIGSTOP' },
    { state: 'killed', signal: 'SIGKILL' },
  ] as const) {
    test(`the NRI plugin is ${state}: pods start all the same`, async () => {
      node.nri.kill(signal);
      const pod = await freshPod(`nri-${state}`);
      const seconds = await startPod(site, pod);
      ledger.add(`NRI plugin ${state}`, seconds, costOf(seconds, healthySeconds));
      assert.equal(pullersOf(site, pod.image), ['agent']);
      if (signal === 'SIGSTOP') node.nri.kill('SIGCONT');
      else await node.nri.restart();
    });
  }

  testLinkCut(site, () => healthySeconds);
}

/** The last of them: the registry is fast again after it. */
function testLinkCut(site: ClusterSite, healthy: () => number): void {
  const { cluster, ledger } = site;
  test("a node's link is cut in the middle of a pull: the other nodes' pods start, and its own when the link is back", async () => {
    const cut = cluster.nodes[1] as KubeNode;
    const image = await cluster.registry.push(`${NAMESPACE}/link-cut`, LAYERS_BYTES);
    const pods = cluster.nodes.map((each): Pod => {
      return { name: `link-cut-${each.name}`, namespace: NAMESPACE, image, labels: OPTED_IN, node: each };
    });
    const startedMs = performance.now();
    const since = () => (performance.now() - startedMs) / 1000;
    for (const pod of pods) await createPod(site, pod);
    await underWay(site, pods[1] as Pod);
    cut.link.cut();
    try {
      await Promise.all(pods.filter(({ node: on }) => on !== cut).map((pod) => waitUntilReady(site, pod)));
      ledger.add("a node's link cut mid-pull: the other nodes", since(), costOf(since(), healthy()));
    } finally {
      cut.link.mend();
    }
    await Promise.all(pods.map((pod) => waitUntilReady(site, pod)));
    ledger.add(
      "a node's link cut mid-pull: the node itself, link mended then",
      since(),
      costOf(since(), healthy()),
    );
    cluster.registry.gate.setRate(cluster.registry.rateBytesPerSecond);
    await removeNamespace(site, NAMESPACE);
  });
}

/** Resolves in the middle of a pull: kubelet has asked for it, and neither nothing nor everything has come. */
async function underWay(site: ClusterSite, pod: Pod): Promise<void> {
  const { image } = pod;
  const filter = { class: 'blob', method: 'GET', path: `/v2/${image.repository}/` } as const;
  const read = async () => ({
    isAsked: /\bPulling\b/.test(await eventsOf(site, pod)),
    bytes: site.cluster.registry.gate.count(filter).bytes,
  });
  const { bytes } = await eventually(
    read,
    (now) => now.isAsked && now.bytes >= UNDER_WAY_BYTES,
    UNDER_WAY_TIMEOUT_MS,
  );
  assert.ok(bytes >= UNDER_WAY_BYTES, `the pull is not under way: ${bytes} bytes`);
  assert.ok(bytes < image.ownBytes, 'the pull is at its end');
}
