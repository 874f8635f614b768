// time limit: 240 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parse } from 'yaml';
import { makeManifests } from '../../hack/deploy/kubernetes/webhook/manifests.ts';
import { parseP2pConfig } from '../../shim/base/p2p-config.ts';
import { canRun } from '../support/real/components.ts';
import { type KubeApi, startKubeApi } from '../support/real/kube-api.ts';
import {
  CONFIG_KEY,
  type InstalledWebhook,
  installWebhook,
  MODE_KEY,
  OWN_NAMESPACE,
  podManifest,
  REGISTRY,
  type Replica,
  startReplica,
  webhookSkipReason,
} from '../support/webhook.ts';

interface Pod {
  readonly metadata: {
    readonly annotations?: Readonly<Record<string, string>>;
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly spec: {
    readonly imagePullSecrets?: readonly { readonly name: string }[];
    readonly containers: readonly { readonly image: string }[];
  };
}

let api: KubeApi;
let webhook: InstalledWebhook;
let replica: Replica;

type PodChange = Parameters<typeof podManifest>[2];

async function createPod(namespace: string, name: string, change: PodChange = {}): Promise<Pod> {
  await api.kubectl.pipe(
    [podManifest(namespace, name, { secrets: ['reg'], ...change })],
    'create',
    '-f',
    '-',
  );
  return api.kubectl.get<Pod>('pod', name, '-n', namespace);
}

const secretsOf = ({ spec }: Pod) => (spec.imagePullSecrets ?? []).map(({ name }) => name);
const isAdmitted = (pod: Pod) => pod.metadata.annotations?.[CONFIG_KEY] !== undefined;
const label = (mode: string) => ({ labels: { [MODE_KEY]: mode } });

const skip = webhookSkipReason();
if (canRun(skip)) {
  api = await startKubeApi();
  webhook = await installWebhook(api, { namespaces: ['plain'], others: ['labelled'] });
  await api.kubectl.run('label', 'namespace', 'labelled', `${MODE_KEY}=p2p`);
  replica = await startReplica(webhook, 'one');

  test('the manifests are taken by a real API server, again too, and leave what the webhook wrote', async () => {
    const options = { ownNamespace: OWN_NAMESPACE, namespaces: ['plain'], keyPrefix: 'k8s.aliyun.com' };
    const manifests = makeManifests({ ...options, image: 'registry.example/shoal:test', args: [] });
    const checked = await api.kubectl.pipe(manifests, 'apply', '--dry-run=server', '-f', '-');
    assert.is(checked.trim().split('\n').length, manifests.length);
    await api.kubectl.apply(...manifests);
    const text = await api.kubectl.run('get', 'mutatingwebhookconfiguration', 'shoal-webhook', '-o', 'yaml');
    for (const entry of parse(text).webhooks) {
      assert.match(Buffer.from(entry.clientConfig.caBundle, 'base64').toString(), /BEGIN CERTIFICATE/);
      assert.is(entry.failurePolicy, 'Ignore');
    }
  });

  test('the webhook may read secrets of listed namespaces and of no others', async () => {
    const as = `--as=system:serviceaccount:${OWN_NAMESPACE}:shoal-webhook`;
    const can = async (...what: string[]) => {
      const answer = api.kubectl.run('auth', 'can-i', ...what, as);
      return (await answer.catch((error: Error) => error.message)).includes('yes');
    };
    assert.ok(await can('list', 'secrets', '-n', 'plain'));
    assert.not.ok(await can('get', 'secrets', '-n', 'labelled'));
    assert.not.ok(await can('list', 'secrets', '-n', OWN_NAMESPACE));
    assert.not.ok(await can('list', 'secrets', '--all-namespaces'));
    assert.not.ok(await can('update', 'pods', '-n', 'plain'));
  });

  test('a pod that carries the label is admitted in a namespace that does not', async () => {
    const pod = await createPod('plain', 'labelled', label('p2p'));
    assert.is(pod.metadata.annotations?.[MODE_KEY], 'p2p');
    assert.equal(parseP2pConfig(pod.metadata.annotations?.[CONFIG_KEY] ?? ''), {
      version: 1,
      images: [`${REGISTRY}/team/web:1`],
      secrets: ['acr-credential-reg-p2p'],
      limits: {},
    });
    assert.equal(secretsOf(pod), ['reg', 'acr-credential-reg-p2p']);
    assert.is(pod.spec.containers[0]?.image, `${REGISTRY}/team/web:1`);
  });

  test('any pod of a labelled namespace is admitted, and once where it carries the label too', async () => {
    assert.ok(isAdmitted(await createPod('labelled', 'without')));
    const both = await createPod('labelled', 'with', label('p2p'));
    assert.equal(secretsOf(both), ['reg', 'acr-credential-reg-p2p']);
    const asked = 'shoal_webhook_admissions_total{scope="pod",result="opted-in"}';
    assert.is(await replica.metric(asked), 1, 'only the pod of the namespace without the label');
  });

  test('the secrets of the service account count as those of the pod', async () => {
    const patch = JSON.stringify({ imagePullSecrets: [{ name: 'from-account' }] });
    await api.kubectl.run('patch', 'serviceaccount', 'default', '-n', 'labelled', '-p', patch);
    const pod = await createPod('labelled', 'account', { secrets: [] });
    assert.equal(secretsOf(pod), ['from-account', 'acr-credential-from-account-p2p']);
  });

  test('off beats the namespace, and pods that say nothing elsewhere stay as they are', async () => {
    const changes: [string, string, PodChange][] = [
      ['labelled', 'off-label', label('off')],
      ['labelled', 'off-annotation', { annotations: { [MODE_KEY]: 'off' } }],
      ['plain', 'silent', {}],
      ['plain', 'other', label('other')],
      ['plain', 'annotation', { annotations: { [MODE_KEY]: 'p2p' } }],
      ['default', 'no-namespace-label', {}],
    ];
    await api.kubectl.apply({
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'default', namespace: 'default' },
    });
    for (const [namespace, name, change] of changes) {
      const pod = await createPod(namespace, name, change);
      assert.not.ok(isAdmitted(pod), name);
      assert.equal(secretsOf(pod), ['reg'], name);
    }
  });

  test('the webhook leaves its own namespace alone, so that it can come up', async () => {
    await api.kubectl.run('label', 'namespace', OWN_NAMESPACE, `${MODE_KEY}=p2p`);
    await api.kubectl.apply({
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'default', namespace: OWN_NAMESPACE },
    });
    assert.not.ok(isAdmitted(await createPod(OWN_NAMESPACE, 'own', label('p2p'))));
  });

  test('odd pods are created all the same', async () => {
    const names = Array.from({ length: 80 }, (_, i) => `secret-${i}`);
    const many = await createPod('labelled', 'many', { secrets: [...names, 'x'.repeat(240)] });
    assert.is(secretsOf(many).length, 81 + 64);
    const full = { annotations: { big: 'x'.repeat((256 << 10) - 20) } };
    assert.not.ok(isAdmitted(await createPod('labelled', 'full', full)));
    const limits = { annotations: { 'k8s.aliyun.com/p2p-limits': 'nonsense' } };
    assert.ok(isAdmitted(await createPod('labelled', 'limits', limits)));
  });

  test('pods are created at once when the webhook is frozen or gone, and as they are', async () => {
    replica.kill('SIGSTOP');
    const startedMs = performance.now();
    assert.not.ok(isAdmitted(await createPod('labelled', 'frozen')));
    assert.ok(performance.now() - startedMs < 10_000, 'within the timeout of 5 s, and kubectl twice');
    replica.kill('SIGCONT');
    await replica.stop();
    assert.not.ok(isAdmitted(await createPod('labelled', 'gone')));
    await using again = await startReplica(webhook, 'one');
    assert.ok(await again.isReady());
    assert.ok(isAdmitted(await createPod('labelled', 'back')));
  });

  test.after(async () => {
    await replica.stop();
    await api.stop();
  });
}
test.run();
