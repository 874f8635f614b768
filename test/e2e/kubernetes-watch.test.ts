// time limit: 400 s
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ApiClient } from '../../shim/kubernetes/api-client.ts';
import type { BoundPodFacts } from '../../shim/kubernetes/bound-pod.ts';
import { accessFrom } from '../../shim/kubernetes/cluster-access.ts';
import { followBoundPods } from '../../shim/kubernetes/follow-bound-pods.ts';
import { followLabelledNamespaces } from '../../shim/kubernetes/labelled-namespaces.ts';
import { PullSecrets } from '../../shim/kubernetes/pull-secrets.ts';
import { eventually, failureOf } from '../support/pull-site.ts';
import { canRun } from '../support/real/components.ts';
import { type KubeApi, kubeApiSkipReason, startKubeApi } from '../support/real/kube-api.ts';

const RBAC = resolve(import.meta.dirname, '../../hack/deploy/kubernetes/agent/rbac.yaml');
const KEY = 'k8s.aliyun.com/image-accelerate-mode';
const NODE = 'node-1';
const KUBELET = `system:node:${NODE}`;
const USER = 'planted-user';
const PASSWORD = 'planted-password-90c2f6aa';
/** An event takes milliseconds; after a restart the back-off may reach its half minute. */
const EVENT_WAIT_MS = 60_000;

if (canRun(kubeApiSkipReason())) {
  let api: KubeApi;
  let kubeconfig: string;
  test.before(async () => {
    api = await startKubeApi({ users: [{ name: KUBELET, groups: ['system:nodes'] }] });
    await api.kubectl.run('apply', '-f', RBAC);
    kubeconfig = api.kubeconfigWith(await api.serviceAccountToken('shoal-system', 'shoal-agent'));
    for (const name of ['plain', 'team', 'other']) await makeNamespace(name);
    await api.kubectl.run('label', 'namespace', 'team', `${KEY}=p2p`);
  });
  test.after(() => api.stop());

  test('followLabelledNamespaces() follows labels, through a restart of the API server', async () => {
    await using watch = watchNamespaces(kubeconfig);
    await watch.until(['team']);
    await api.kubectl.run('label', 'namespace', 'other', `${KEY}=p2p`);
    await watch.until(['other', 'team']);
    await api.kubectl.run('label', 'namespace', 'other', `${KEY}=off`, '--overwrite');
    await watch.until(['team']);
    await api.restart(async () => {
      await eventually(watch.states, (states) => states.length > 0, EVENT_WAIT_MS);
      assert.equal(watch.names(), ['team'], 'what was said last stands');
    });
    await api.kubectl.run('label', 'namespace', 'plain', `${KEY}=p2p`);
    await api.kubectl.run('label', 'namespace', 'team', `${KEY}-`);
    await watch.until(['plain']);
    assert.equal(watch.states().at(-1), undefined, 'the end of the failure is told');
    await api.kubectl.run('label', 'namespace', 'plain', `${KEY}-`);
    await watch.until([]);
  });

  test('followBoundPods() tells of the pods of its node from binding to their end', async () => {
    await using watch = watchPods(kubeconfig);
    await makePod('team', 'elsewhere', 'node-2');
    await makePod('team', 'waiting', undefined);
    await makePod('team', 'early', NODE);
    const [early] = await eventually(watch.bound, (pods) => pods.length === 1, EVENT_WAIT_MS);
    assert.is(early?.name, 'early');
    assert.is(early?.isWaiting, true);
    assert.equal(early?.images, ['registry.test/init:1', 'registry.test/app:1']);
    assert.equal(early?.secrets, ['pull', 'missing']);
    assert.equal(early?.labels, { [KEY]: 'p2p' });
    await bind('waiting');
    await eventually(watch.bound, (pods) => pods.some(({ name }) => name === 'waiting'), EVENT_WAIT_MS);
    await api.kubectl.run('annotate', 'pod', 'early', '-n', 'team', 'unrelated=1');
    await api.kubectl.run('annotate', 'pod', 'early', '-n', 'team', `${KEY}=off`);
    await eventually(watch.bound, (pods) => pods.length === 3, EVENT_WAIT_MS);
    assert.is(
      watch.bound().filter(({ name }) => name === 'early').length,
      2,
      'what nobody reads is not told',
    );
    await api.restart(async () => {
      assert.equal(watch.unbound(), []);
    });
    await api.kubectl.run('delete', 'pod', 'early', '-n', 'team', '--force', '--grace-period=0');
    await eventually(watch.unbound, (uids) => uids.length === 1, EVENT_WAIT_MS);
    assert.equal(watch.unbound(), [early?.podUid]);
    assert.not(watch.bound().some(({ name }) => name === 'elsewhere'));
    await api.kubectl.run('delete', 'pod', '--all', '-n', 'team', '--force', '--grace-period=0');
  });

  test('followBoundPods() makes do with kubelet’s own kubeconfig', async () => {
    await makePod('team', 'by-kubelet', NODE);
    await using watch = watchPods(api.kubeconfigOf(KUBELET));
    await eventually(watch.bound, (pods) => pods.length === 1, EVENT_WAIT_MS);
    assert.equal(
      watch.bound().map(({ name }) => name),
      ['by-kubelet'],
    );
    await api.kubectl.run('delete', 'pod', 'by-kubelet', '-n', 'team', '--force', '--grace-period=0');
    await eventually(watch.unbound, (uids) => uids.length === 1, EVENT_WAIT_MS);
    assert.is(watch.unbound().length, 1);
  });

  test('PullSecrets reads what the pods of the node name by kubelet’s kubeconfig, and nothing else', async () => {
    await makeSecret('pull', { 'registry.test': { username: USER, password: PASSWORD } });
    await makeSecret('unrelated', { 'registry.test': { username: USER, password: PASSWORD } });
    await makePod('team', 'app', NODE);
    const failures: unknown[] = [];
    const secrets = new PullSecrets({
      openAccess: accessFrom(api.kubeconfigOf(KUBELET), {}),
      p2pRules: [],
      onFailure: (error) => failures.push(error),
    });
    const find = (names: readonly string[], registryHost = 'registry.test') =>
      secrets.find({ namespace: 'team', secrets: names, registryHost, repository: 'app' }, never);
    assert.equal(await eventually(() => find(['pull', 'missing']), Boolean), {
      username: USER,
      password: PASSWORD,
    });
    assert.is(await find(['pull'], 'other.test'), undefined);
    failures.length = 0;
    assert.is(await find(['unrelated']), undefined, 'no pod of this node names it');
    assert.is(failures.length, 1);
    assert.not.match(JSON.stringify(failures), PASSWORD);
    await makeSecret('pull', { 'registry.test': { username: USER, password: 'rotated' } });
    assert.is(
      (
        await eventually(
          () => find(['pull']),
          (found) => found?.password === 'rotated',
        )
      )?.password,
      'rotated',
    );
  });

  test('the agent’s own account may read endpoint slices of its namespace, and no secret', async () => {
    const client = new ApiClient(await accessFrom(kubeconfig, {})());
    try {
      const slices = (namespace: string) => ({
        path: `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`,
      });
      await client.get(slices('shoal-system'), never);
      await failureOf(client.get(slices('team'), never));
      for (const path of [
        '/api/v1/secrets',
        '/api/v1/namespaces/team/secrets',
        '/api/v1/namespaces/team/secrets/pull',
      ]) {
        const failure = await failureOf(client.get({ path }, never));
        assert.match(failure.message, `Cannot read "${path}" of the API server: the API server answered 403`);
      }
    } finally {
      await client.close();
    }
  });

  async function makeNamespace(name: string): Promise<void> {
    await api.kubectl.run('create', 'namespace', name);
    // The controller manager would make it, and no pod is admitted without.
    await api.kubectl.run('create', 'serviceaccount', 'default', '-n', name);
  }

  async function makePod(namespace: string, name: string, nodeName: string | undefined): Promise<void> {
    const containers = [{ name: 'app', image: 'registry.test/app:1' }];
    const initContainers = [
      { name: 'init', image: 'registry.test/init:1' },
      { name: 'local', image: 'registry.test/local:1', imagePullPolicy: 'Never' },
    ];
    const imagePullSecrets = [{ name: 'pull' }, { name: 'missing' }];
    const spec = { containers, initContainers, imagePullSecrets, ...(nodeName && { nodeName }) };
    const metadata = { name, namespace, labels: { [KEY]: 'p2p', app: 'x' } };
    await api.kubectl.pipe([{ apiVersion: 'v1', kind: 'Pod', metadata, spec }], 'create', '-f', '-');
  }

  async function makeSecret(name: string, auths: object): Promise<void> {
    const stringData = { '.dockerconfigjson': JSON.stringify({ auths }) };
    const type = 'kubernetes.io/dockerconfigjson';
    await api.kubectl.apply({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name, namespace: 'team' },
      type,
      stringData,
    });
  }

  /** What a scheduler does. */
  async function bind(name: string): Promise<void> {
    const file = join(api.kubeconfig, '..', `binding-${name}.json`);
    writeFileSync(file, JSON.stringify(bindingOf(name)));
    await api.kubectl.run('create', '--raw', `/api/v1/namespaces/team/pods/${name}/binding`, '-f', file);
  }
}

test.run();

const never = new AbortController().signal;

function bindingOf(name: string): object {
  return {
    apiVersion: 'v1',
    kind: 'Binding',
    metadata: { name },
    target: { apiVersion: 'v1', kind: 'Node', name: NODE },
  };
}

function watchNamespaces(kubeconfig: string) {
  const stop = new AbortController();
  let names: readonly string[] | undefined;
  const states: unknown[] = [];
  const done = followLabelledNamespaces(
    {
      openAccess: accessFrom(kubeconfig, {}),
      keyPrefix: 'k8s.aliyun.com',
      random: () => 0,
      onNames: (now) => {
        names = now;
      },
      onState: (state) => states.push(state),
    },
    stop.signal,
  );
  return {
    names: () => names,
    states: () => states,
    until: async (wanted: readonly string[]) => {
      const isWanted = () => JSON.stringify(names) === JSON.stringify(wanted);
      await eventually(isWanted, Boolean, EVENT_WAIT_MS);
      assert.equal(names, wanted);
    },
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await done;
    },
  };
}

function watchPods(kubeconfig: string) {
  const stop = new AbortController();
  const bound: BoundPodFacts[] = [];
  const unbound: string[] = [];
  const done = followBoundPods(
    {
      openAccess: accessFrom(kubeconfig, {}),
      nodeName: NODE,
      keyPrefix: 'k8s.aliyun.com',
      random: () => 0,
      onBound: (pod) => bound.push(pod),
      onUnbound: (uid) => unbound.push(uid),
      onState: () => undefined,
    },
    stop.signal,
  );
  return {
    bound: () => bound,
    unbound: () => unbound,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await done;
    },
  };
}
