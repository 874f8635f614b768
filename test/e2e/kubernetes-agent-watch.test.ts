// time limit: 400 s
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Agent, startAgent } from '../support/agent.ts';
import type { PushedImage } from '../support/images/push-image.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import { eventually, startOriginSite } from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { type Containerd, startContainerd } from '../support/real/containerd.ts';
import { pull, runCrictl } from '../support/real/crictl.ts';
import { testedVersion } from '../support/real/import-site.ts';
import { type KubeApi, kubeApiSkipReason, startKubeApi } from '../support/real/kube-api.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';

const RBAC = resolve(import.meta.dirname, '../../hack/deploy/kubernetes/agent/rbac.yaml');
const KEY = 'k8s.aliyun.com/image-accelerate-mode';
const NODE = 'node-1';
const KUBELET = `system:node:${NODE}`;
const USER = 'planted-user';
const PASSWORD = 'planted-password-d1c0ffee';
const WAIT_MS = 60_000;

if (canRun(kubeApiSkipReason() ?? containerdSkipReason(testedVersion, 'crictl-go', 'registry'))) {
  let site: Awaited<ReturnType<typeof startSite>>;
  test.before(async () => {
    site = await startSite();
  });
  test.after(() => site[Symbol.asyncDispose]());

  test('a namespace opts in by its label, stays so while the API server is away, and opts out again', async () => {
    const { api } = site;
    const image = await site.push('team/labelled');
    const decides = async (): Promise<string | undefined> => (await decisionOf(site, image))?.reason;
    const until = (reason: string) => eventually(decides, (decided) => decided === reason, WAIT_MS);
    assert.is(await decides(), 'not-opted-in');
    await api.kubectl.run('label', 'namespace', 'team', `${KEY}=p2p`);
    assert.is(await until('opted-in'), 'opted-in');
    assert.is((await decisionOf(site, image))?.optedInBy, 'namespace');
    await api.restart(async () => {
      assert.is(await decides(), 'opted-in', 'what was said last stands');
    });
    await api.kubectl.run('label', 'namespace', 'team', `${KEY}-`);
    assert.is(await until('not-opted-in'), 'not-opted-in');
  });

  test('a pod’s images are warmed from binding, with the pod’s own secret, and are no images yet', async () => {
    const { gate, containerd } = site;
    const image = await site.push('team/warmed');
    await site.makeSecret('pull', PASSWORD);
    gate.reset();
    await site.makePod('warmed', [image.reference]);
    const ends = await eventually(
      () => warmUpsOf(site.agent, image),
      (found) => found.length > 0,
      WAIT_MS,
    );
    assert.is(ends[0]?.outcome, 'warmed');
    assert.ok(gate.count({ class: 'blob' }).bytes > 300_000, 'the layers came');
    assert.not.match(await containerd.ctr('images', 'ls', '-q'), 'team/warmed');
    gate.reset();
    const id = await pull(site.cri, image.reference, {
      creds: `${USER}:${PASSWORD}`,
      annotations: { [KEY]: 'p2p' },
    });
    assert.match(id, 'sha256:');
    assert.ok(gate.count({ class: 'blob' }).bytes < 100_000, 'no layer came again');
    await runCrictl(site.cri, 'rmi', image.reference);
  });

  test('a pod whose secret is wrong, and one that has not opted in, have nothing warmed', async () => {
    const { gate } = site;
    const image = await site.push('team/refused');
    // Of another namespace: what the registry accepted from one pull of a namespace may warm the namespace's other images.
    await site.makeSecret('pull', 'not-the-password', 'other');
    gate.reset();
    await site.makePod('refused', [image.reference], { namespace: 'other' });
    const ends = await eventually(
      () => warmUpsOf(site.agent, image),
      (found) => found.length > 0,
      WAIT_MS,
    );
    assert.is(ends[0]?.outcome, 'refused');
    assert.is(gate.count({ class: 'blob' }).bytes, 0);
    const other = await site.push('team/plain');
    await site.makePod('plain', [other.reference], { labels: { [KEY]: 'off' } });
    await site.makePod('last', [image.reference], { namespace: 'other' });
    await eventually(
      () => warmUpsOf(site.agent, image),
      (found) => found.length > 1,
      WAIT_MS,
    );
    assert.equal(warmUpsOf(site.agent, other), []);
  });

  test('no credential of a pod’s secret is found in log, status and files', async () => {
    const told = [
      site.agent.log(),
      JSON.stringify(await site.agent.status()),
      readFileSync(site.agent.configFile, 'utf8'),
    ];
    for (const secret of [
      PASSWORD,
      Buffer.from(`${USER}:${PASSWORD}`).toString('base64'),
      site.token,
      site.api.token,
    ])
      for (const text of told) assert.not(text.includes(secret));
    assert.match(told[0] ?? '', 'warm-up ended');
  });

  test('an agent starts and pulls while there is no API server', async () => {
    await using agent = await site.startAgent('away', { kubeconfig: site.deadKubeconfig });
    const image = await site.push('team/away');
    const id = await pull({ endpoint: agent.criSocket }, image.reference, {
      creds: `${USER}:${PASSWORD}`,
      annotations: { [KEY]: 'p2p' },
    });
    assert.match(id, 'sha256:');
    const warned = () => agent.log().split('the API server cannot be asked').length - 1;
    await eventually(warned, (count) => count >= 2);
    assert.is(warned(), 2, 'once for each watch');
    agent.kill('SIGTERM');
    await agent.ended;
  });

  test('the watches cost an agent a few megabytes', async () => {
    await using without = await site.startAgent('without', { watchNamespaces: false, watchPods: false });
    const both = {
      kubeconfig: site.kubeconfig,
      watchNamespaces: true,
      watchPods: true,
      kubeletKubeconfig: site.kubeletKubeconfig,
    };
    await using withBoth = await site.startAgent('with', both);
    await eventually(
      () => withBoth.log(),
      (log) => log.includes('namespaces that opt in'),
      WAIT_MS,
    );
    const costMb = (residentBytes(withBoth.pid) - residentBytes(without.pid)) / 1e6;
    console.log(
      `  watches: ${costMb.toFixed(1)} MB more than ${(residentBytes(without.pid) / 1e6).toFixed(1)} MB`,
    );
    assert.ok(costMb < 20, `${costMb} MB`);
  });
}

test.run();

interface Decision {
  readonly image?: string;
  readonly reason?: string;
  readonly optedInBy?: string;
}

/** Pulls for a pod of namespace team, and gives what the agent says that it decided. */
async function decisionOf(
  { agent, cri, podConfig }: { agent: Agent; cri: { endpoint: string }; podConfig: string },
  image: PushedImage,
): Promise<Decision | undefined> {
  await pull(cri, image.reference, { creds: `${USER}:${PASSWORD}`, podConfigPath: podConfig });
  return linesOf<Decision>(agent, 'decided about a pull').findLast((line) => line.image === image.reference);
}

function warmUpsOf(agent: Agent, image: PushedImage) {
  const ends = linesOf<{ image: string; outcome: string }>(agent, 'warm-up ended');
  return ends.filter((line) => line.image === image.reference);
}

function linesOf<Line>(agent: Agent, message: string): Line[] {
  const lines = agent
    .log()
    .split('\n')
    .filter((line) => line.startsWith('{'));
  return lines.map((line) => JSON.parse(line)).filter((line) => line.message === message);
}

function residentBytes(pid: number): number {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kilobytes) * 1024;
}

async function startSite() {
  await using stack = new AsyncDisposableStack();
  const origin = stack.use(await startOriginSite({ basic: { user: USER, password: PASSWORD } }));
  const api: KubeApi = stack.use(
    await startKubeApi({ users: [{ name: KUBELET, groups: ['system:nodes'] }] }),
  );
  const { kubectl } = api;
  await prepareCluster(api);
  const token = await api.serviceAccountToken('shoal-system', 'shoal-agent');
  const kubeconfig = api.kubeconfigWith(token);
  const kubeletKubeconfig = api.kubeconfigOf(KUBELET);
  const folder = stack.use(makeTemporaryRoot('kag'));
  const deadKubeconfig = `${folder.path}/dead`;
  writeFileSync(deadKubeconfig, readFileSync(kubeconfig, 'utf8').replace(/127\.0\.0\.1:\d+/, '127.0.0.1:1'));
  const podConfig = `${folder.path}/pod.json`;
  writeFileSync(
    podConfig,
    JSON.stringify({ metadata: { name: 'by-hand', uid: 'by-hand', namespace: 'team' } }),
  );
  const containerd: Containerd = stack.use(await startContainerd({ version: testedVersion }));
  const startOwnAgent = (name: string, kubernetes: object): Promise<Agent> =>
    startAgent({
      name,
      containerd: containerd.socket,
      settings: {
        policy: { mode: 'opt-in' },
        log: { level: 'debug' },
        p2p: { v2: { cache: { directory: `${folder.path}/${name}` } } },
        kubernetes: { nodeName: NODE, watchNamespaces: true, watchPods: true, ...kubernetes },
      },
    });
  const agent = stack.use(await startOwnAgent('node', { kubeconfig, kubeletKubeconfig }));
  const owned = stack.move();
  return {
    ...{ api, agent, containerd, token, kubeconfig, kubeletKubeconfig, deadKubeconfig, podConfig },
    gate: origin.gate,
    cri: { endpoint: agent.criSocket },
    startAgent: startOwnAgent,
    push: async (repository: string) => {
      using image = await buildSampleImage({
        layerSizesBytes: [400_000],
        compression: ['gzip'],
        seed: repository,
      });
      return await origin.push(image, repository);
    },
    makeSecret: async (name: string, password: string, namespace = 'team') => {
      const auths = { [origin.gate.host]: { username: USER, password } };
      const stringData = { '.dockerconfigjson': JSON.stringify({ auths }) };
      const metadata = { name, namespace };
      await kubectl.apply({
        apiVersion: 'v1',
        kind: 'Secret',
        metadata,
        type: 'kubernetes.io/dockerconfigjson',
        stringData,
      });
    },
    makePod: async (
      name: string,
      images: readonly string[],
      { namespace = 'team', labels = { [KEY]: 'p2p' } } = {},
    ) => {
      const containers = images.map((image, index) => ({ name: `c${index}`, image }));
      const spec = { nodeName: NODE, imagePullSecrets: [{ name: 'pull' }], containers };
      const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace, labels }, spec };
      await kubectl.pipe([pod], 'create', '-f', '-');
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function prepareCluster({ kubectl }: KubeApi): Promise<void> {
  await kubectl.run('apply', '-f', RBAC);
  for (const namespace of ['team', 'other']) {
    await kubectl.run('create', 'namespace', namespace);
    // The controller manager would make it, and no pod is admitted without.
    await kubectl.run('create', 'serviceaccount', 'default', '-n', namespace);
  }
}
