import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { eventually } from '../../support/pull-site.ts';
import type { KubeNode } from '../../support/real/kube-node.ts';
import {
  CONFIG_KEY,
  installWebhook,
  OWN_NAMESPACE,
  P2P_REGISTRY,
  type Replica,
  startReplica,
} from '../../support/webhook.ts';
import {
  type ClusterSite,
  costOf,
  MODE_KEY,
  makeNamespace,
  originReads,
  type PodObject,
  PULL_SECRET,
  pullersOf,
  pullResultsOf,
  setPassword,
  startDeployment,
  startPod,
} from './site.ts';

const NAMESPACE = 'webhooked';
const COPY = `acr-credential-${PULL_SECRET}-p2p`;
const LAYERS_BYTES = [20_000_000, 10_000_000];
const ABOUT_ONCE = 1.2;
/** Copies are made by a controller, after the pod. */
const COPY_WAIT_MS = 30_000;

interface SecretObject {
  readonly data: Readonly<Record<string, string>>;
}

/** A labelled namespace and the webhook, as the product's documents show them. */
export function testWebhook(site: ClusterSite): void {
  const { cluster, ledger } = site;
  const { kubectl, registry } = cluster;
  const replicas: Replica[] = [];
  const node = cluster.nodes[0] as KubeNode;

  test('in a labelled namespace the webhook adds annotations and pull secret, and a Deployment runs on every node', async () => {
    replicas.push(...(await startWebhook(site)));
    await kubectl.run('label', 'namespace', NAMESPACE, `${MODE_KEY}=p2p`);
    const image = await registry.push('webhooked/app', LAYERS_BYTES);
    const seconds = await startDeployment(site, { name: 'app', namespace: NAMESPACE, image });
    const reads = originReads(site, image);
    ledger.add(
      'three nodes, 30 MB, labelled namespace, webhook',
      seconds,
      `registry read ${reads.toFixed(2)} times`,
    );

    const pods = (await kubectl.get<{ items: PodObject[] }>('pods', '-n', NAMESPACE, '-l', 'app=app')).items;
    assert.is(pods.length, cluster.nodes.length);
    for (const { metadata, spec } of pods) {
      assert.is(metadata.annotations?.[MODE_KEY], 'p2p');
      const config = JSON.parse(metadata.annotations?.[CONFIG_KEY] ?? '{}');
      assert.equal([config.version, config.images, config.secrets], [1, [image.reference], [COPY]]);
      assert.equal(spec.imagePullSecrets, [{ name: PULL_SECRET }, { name: COPY }]);
    }
    assert.equal(await registriesOf(site, COPY), [P2P_REGISTRY]);
    assert.equal(pullersOf(site, image), ['agent']);
    assert.ok(reads >= 0.99 && reads <= ABOUT_ONCE, `each byte was read ${reads} times`);
    const results = await Promise.all(cluster.nodes.map((each) => pullResultsOf(each, NAMESPACE)));
    assert.equal(
      results.map(([result]) => result?.accelerated),
      cluster.nodes.map(() => true),
    );
    const fromPeers = results.reduce((sum, [result]) => sum + (result?.bytes?.peer ?? 0), 0);
    assert.ok(fromPeers >= image.ownBytes, `${fromPeers} bytes from peers`);
  });

  test('a pod whose image has a P2P address is pulled with the copied secret alone', async () => {
    const image = await registry.push('webhooked/address', LAYERS_BYTES);
    const reference = image.reference.replace(registry.host, P2P_REGISTRY);
    const pod = { name: 'address', namespace: NAMESPACE, node, image: { ...image, reference } };
    ledger.add('a pod with a P2P address', await startPod(site, { ...pod, pullSecrets: [COPY] }));
    assert.equal(pullersOf(site, image), ['agent']);
  });

  test('a changed secret changes its copy, and a removed one takes it along', async () => {
    await setPassword(site, NAMESPACE, 'wrong');
    const before = performance.now();
    const isCopied = async () => (await passwordOf(site, COPY)) === 'wrong';
    assert.ok(await eventually(isCopied, Boolean, COPY_WAIT_MS));
    ledger.add('a changed secret is in its copy', (performance.now() - before) / 1000);
    const removedMs = performance.now();
    await kubectl.run('delete', 'secret', PULL_SECRET, '-n', NAMESPACE);
    const isGone = async () => (await kubectl.run('get', 'secret', '-n', NAMESPACE, '-o', 'name')) === '';
    assert.ok(await eventually(isGone, Boolean, COPY_WAIT_MS));
    ledger.add('a removed secret has taken its copy along', (performance.now() - removedMs) / 1000);
    await setPassword(site, NAMESPACE, registry.password);
  });

  let healthySeconds = 0;
  test('a pod of a labelled namespace starts (what a missing webhook is measured against)', async () => {
    const image = await registry.push('webhooked/healthy', LAYERS_BYTES);
    healthySeconds = await startPod(site, { name: 'healthy', namespace: NAMESPACE, node, image });
    ledger.add('a pod, 30 MB, labelled namespace, webhook', healthySeconds);
  });

  for (const { state, signal } of [
    { state: 'frozen', signal: 'SIGSTOP' },
    { state: 'killed', signal: 'SIGKILL' },
  ] as const) {
    test(`the webhook is ${state}: pods of the labelled namespace start all the same, and are accelerated`, async () => {
      for (const replica of replicas) replica.kill(signal);
      const name = `webhook-${state}`;
      const image = await registry.push(`webhooked/${name}`, LAYERS_BYTES);
      const seconds = await startPod(site, { name, namespace: NAMESPACE, node, image });
      ledger.add(`webhook ${state}: a pod, 30 MB`, seconds, costOf(seconds, healthySeconds));
      const { metadata } = await kubectl.get<PodObject>('pod', name, '-n', NAMESPACE);
      assert.is(metadata.annotations?.[CONFIG_KEY], undefined);
      assert.equal(pullersOf(site, image), ['agent']);
      if (signal === 'SIGSTOP') for (const replica of replicas) replica.kill('SIGCONT');
    });
  }

  test('the webhook goes', async () => {
    for (const replica of replicas) await replica.stop();
    await kubectl.run('delete', 'mutatingwebhookconfiguration', 'shoal-webhook');
  });
}

/** As its manifests install it. The two replicas are processes beside the API server: there is no image of ours here. */
async function startWebhook(site: ClusterSite): Promise<Replica[]> {
  const { api, kubectl } = site.cluster;
  await makeNamespace(site, NAMESPACE);
  // Whoever applies it meanwhile finds that the controller manager has just made it.
  await kubectl.run('wait', '--for=create', 'serviceaccount/default', '-n', NAMESPACE, '--timeout=30s');
  const installed = await installWebhook(api, { namespaces: [NAMESPACE] });
  await kubectl.run('scale', 'deployment/shoal-webhook', '-n', OWN_NAMESPACE, '--replicas=0');
  return [await startReplica(installed, 'replica-1'), await startReplica(installed, 'replica-2')];
}

async function registriesOf({ cluster }: ClusterSite, name: string): Promise<string[]> {
  return Object.keys(await authsOf({ cluster }, name));
}

async function passwordOf(
  { cluster }: Pick<ClusterSite, 'cluster'>,
  name: string,
): Promise<string | undefined> {
  return Object.values(await authsOf({ cluster }, name))[0]?.password;
}

async function authsOf(
  { cluster }: Pick<ClusterSite, 'cluster'>,
  name: string,
): Promise<Record<string, { password?: string }>> {
  const { data } = await cluster.kubectl.get<SecretObject>('secret', name, '-n', NAMESPACE);
  return JSON.parse(Buffer.from(data['.dockerconfigjson'] ?? '', 'base64').toString()).auths;
}
