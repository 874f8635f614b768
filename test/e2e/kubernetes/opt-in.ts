import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type ClusterSite,
  makeNamespace,
  OPTED_IN,
  originReads,
  type Pod,
  pullersOf,
  pullResultsOf,
  removeNamespace,
  startDeployment,
  startPod,
} from './site.ts';

const MEGABYTE = 1_000_000;
const LAYERS_BYTES = [20 * MEGABYTE, 10 * MEGABYTE];
/** Once, and a little for two nodes that begin with the same chunk in the same moment. */
const ABOUT_ONCE = 1.2;

/** The runtime handler of the nodes whose runc knows ID-mapped mounts. */
const HANDLER = 'user-namespaces';

/** Opting in where no webhook helps: by pod label, pod annotation, namespace label; and pods that do not. */
export function testOptIn(site: ClusterSite): void {
  const { cluster, ledger } = site;
  const ways: readonly { name: string; marks: Pick<Pod, 'labels' | 'annotations'> }[] = [
    { name: 'pod label', marks: { labels: OPTED_IN } },
    { name: 'pod annotation', marks: { annotations: OPTED_IN } },
    { name: 'namespace label', marks: {} },
  ];
  for (const { name, marks } of ways) {
    test(`a Deployment opted in by ${name} runs on every node, each layer read from the registry about once`, async () => {
      const namespace = `by-${name.replace(' ', '-')}`;
      await makeNamespace(site, namespace, name === 'namespace label' ? OPTED_IN : {});
      const image = await cluster.registry.push(namespace, LAYERS_BYTES);
      const seconds = await startDeployment(site, { name: 'app', namespace, image, ...marks });
      const reads = originReads(site, image);
      ledger.add(`three nodes, 30 MB, by ${name}`, seconds, `registry read ${reads.toFixed(2)} times`);
      assert.equal(pullersOf(site, image), ['agent']);
      const results = await Promise.all(cluster.nodes.map((node) => pullResultsOf(node, namespace)));
      assert.equal(
        results.flat().map(({ accelerated }) => accelerated),
        cluster.nodes.map(() => true),
      );
      assert.ok(reads >= 0.99 && reads <= ABOUT_ONCE, `each byte was read ${reads} times`);
      await removeNamespace(site, namespace);
    });
  }

  test('a pod that has not opted in is pulled by containerd alone', async () => {
    const namespace = 'plain';
    await makeNamespace(site, namespace);
    const image = await cluster.registry.push(namespace, LAYERS_BYTES);
    const seconds = await startDeployment(site, { name: 'app', namespace, image });
    const reads = originReads(site, image);
    ledger.add('three nodes, 30 MB, not opted in', seconds, `registry read ${reads.toFixed(2)} times`);
    assert.equal(pullersOf(site, image), ['containerd']);
    const results = await Promise.all(cluster.nodes.map((node) => pullResultsOf(node, namespace)));
    assert.equal(
      results.flat(),
      cluster.nodes.map(() => ({})),
      'and is not written to',
    );
    assert.ok(reads > 2.9, `each byte was read ${reads} times`);
    await removeNamespace(site, namespace);
  });

  test('a user-namespaced pod is pulled by the agent and runs, where the kernel allows', async () => {
    const why = await userNamespacesSkipReason(site);
    if (why !== null) return ledger.skip('user-namespaced pods', why);
    const namespace = 'user-namespaced';
    await makeNamespace(site, namespace);
    const image = await cluster.registry.push(namespace, LAYERS_BYTES);
    const pod = {
      name: 'app',
      namespace,
      image,
      labels: OPTED_IN,
      spec: { hostUsers: false, runtimeClassName: HANDLER },
    };
    await cluster.kubectl.apply({
      apiVersion: 'node.k8s.io/v1',
      kind: 'RuntimeClass',
      metadata: { name: HANDLER },
      handler: HANDLER,
    });
    ledger.add('user-namespaced pod, 30 MB', await startPod(site, pod));
    assert.equal(pullersOf(site, image), ['agent']);
    const map = await cluster.kubectl.run('exec', '-n', namespace, 'app', '--', 'cat', '/proc/self/uid_map');
    assert.not.match(map, /^\s*0\s+0\s/);
    await removeNamespace(site, namespace);
  });
}

async function userNamespacesSkipReason({ cluster }: ClusterSite): Promise<string | null> {
  const { status } = await cluster.kubectl.get<{
    status: { runtimeHandlers?: { name: string; features?: { userNamespaces?: boolean } }[] };
  }>('node', 'node-1');
  const handler = status.runtimeHandlers?.find(({ name }) => name === HANDLER);
  return handler?.features?.userNamespaces === true
    ? null
    : 'the runtime of the nodes has no ID-mapped mounts here (runc 1.2 or later is wanted)';
}
