import { setTimeout as sleep } from 'node:timers/promises';
import { runCrictl } from '../../support/real/crictl.ts';
import type { KubeCluster, KubeImage } from '../../support/real/kube-cluster.ts';
import type { KubeNode } from '../../support/real/kube-node.ts';
import type { Ledger } from './ledger.ts';

export const MODE_KEY = 'k8s.aliyun.com/image-accelerate-mode';
const RESULT_KEY = 'k8s.aliyun.com/p2p-result';
export const OPTED_IN = { [MODE_KEY]: 'p2p' };
/** The user's own pull secret, as product documents name it. */
export const PULL_SECRET = 'test-registry';

const USER_AGENT_OF_CONTAINERD = /^containerd\//;
/** A pod that starts at all does so within a back-off of kubelet after a failed pull (10 s), then another (20 s), and some slowness. */
const START_TIMEOUT_SECONDS = 60;
const POLL_MS = 250;

/** What the suites of the cluster share. */
export interface ClusterSite {
  readonly cluster: KubeCluster;
  readonly ledger: Ledger;
}

export interface Pod {
  readonly name: string;
  readonly namespace: string;
  readonly image: KubeImage;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Default: the scheduler decides. */
  readonly node?: KubeNode;
  /** Default: the user's own. Empty: none. */
  readonly pullSecrets?: readonly string[];
  readonly pullPolicy?: 'Always' | 'IfNotPresent';
  /** Merged into the pod's spec. */
  readonly spec?: Readonly<Record<string, unknown>>;
}

/** Makes a namespace with the user's pull secret in it. */
export async function makeNamespace(
  { cluster }: ClusterSite,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<void> {
  await cluster.kubectl.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } });
  await setPassword({ cluster }, name, cluster.registry.password);
}

/** Makes or changes the pull secret, as `kubectl create secret docker-registry` does. */
export async function setPassword(
  { cluster }: Pick<ClusterSite, 'cluster'>,
  namespace: string,
  password: string,
): Promise<void> {
  const { host, user } = cluster.registry;
  const auth = Buffer.from(`${user}:${password}`).toString('base64');
  const config = JSON.stringify({ auths: { [host]: { username: user, password, auth } } });
  await cluster.kubectl.apply({
    apiVersion: 'v1',
    kind: 'Secret',
    type: 'kubernetes.io/dockerconfigjson',
    metadata: { name: PULL_SECRET, namespace },
    data: { '.dockerconfigjson': Buffer.from(config).toString('base64') },
  });
}

/** Creates the pod and gives the seconds until it was ready. */
export async function startPod(site: ClusterSite, pod: Pod): Promise<number> {
  const startedMs = performance.now();
  await createPod(site, pod);
  await waitUntilReady(site, pod);
  return (performance.now() - startedMs) / 1000;
}

export async function createPod({ cluster }: ClusterSite, pod: Pod): Promise<void> {
  const { name, namespace } = pod;
  await cluster.kubectl.pipe(
    [{ apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace, ...marks(pod) }, spec: podSpec(pod) }],
    'create',
    '-f',
    '-',
  );
}

export async function waitUntilReady({ cluster }: ClusterSite, pod: Pod): Promise<void> {
  const which = [`pod/${pod.name}`, '-n', pod.namespace];
  try {
    await cluster.kubectl.run(
      'wait',
      '--for=condition=Ready',
      ...which,
      `--timeout=${START_TIMEOUT_SECONDS}s`,
    );
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${await eventsOf({ cluster }, pod)}`);
  }
}

/** Creates a Deployment with one pod a node and gives the seconds until all were ready. */
export async function startDeployment({ cluster }: ClusterSite, pod: Pod): Promise<number> {
  const startedMs = performance.now();
  const labels = { app: pod.name };
  const spread = {
    maxSkew: 1,
    topologyKey: 'kubernetes.io/hostname',
    whenUnsatisfiable: 'DoNotSchedule',
    labelSelector: { matchLabels: labels },
  };
  const { annotations, labels: podLabels } = marks(pod);
  await cluster.kubectl.apply({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: pod.name, namespace: pod.namespace },
    spec: {
      replicas: cluster.nodes.length,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels: { ...podLabels, ...labels }, annotations },
        spec: { ...podSpec(pod), topologySpreadConstraints: [spread] },
      },
    },
  });
  const which = [`deployment/${pod.name}`, '-n', pod.namespace];
  await cluster.kubectl.run('rollout', 'status', ...which, `--timeout=${START_TIMEOUT_SECONDS}s`);
  return (performance.now() - startedMs) / 1000;
}

/** Removes what a test has made; the pods need not be gone for the next one. */
export async function removeNamespace({ cluster }: ClusterSite, name: string): Promise<void> {
  await cluster.kubectl.run('delete', 'namespace', name, '--wait=false');
}

/** Polls until kubelet says why the pod's container is waiting, and gives reason and message. */
export async function waitingReason({ cluster }: ClusterSite, pod: Pod, reasons: RegExp): Promise<string> {
  const deadlineMs = performance.now() + START_TIMEOUT_SECONDS * 1000;
  for (;;) {
    const { status } = await cluster.kubectl.get<PodObject>('pod', pod.name, '-n', pod.namespace);
    const { reason = '', message = '' } = status.containerStatuses?.[0]?.state.waiting ?? {};
    if (reasons.test(reason)) return `${reason}: ${message}`;
    if (performance.now() > deadlineMs) {
      throw new Error(`Cannot wait for "${pod.name}" to fail:\n${await eventsOf({ cluster }, pod)}`);
    }
    await sleep(POLL_MS);
  }
}

export interface PodObject {
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly spec: {
    readonly nodeName?: string;
    readonly imagePullSecrets?: readonly { readonly name: string }[];
  };
  readonly status: {
    readonly phase: string;
    readonly containerStatuses?: readonly {
      readonly containerID?: string;
      readonly state: { readonly waiting?: { readonly reason?: string; readonly message?: string } };
    }[];
  };
}

export function eventsOf({ cluster }: Pick<ClusterSite, 'cluster'>, pod: Pod): Promise<string> {
  const filter = `--field-selector=involvedObject.name=${pod.name}`;
  return cluster.kubectl.run('get', 'events', '-n', pod.namespace, filter).catch(() => '');
}

export function costOf(seconds: number, healthySeconds: number): string {
  const more = seconds - healthySeconds;
  return `${more >= 0 ? '+' : '−'}${Math.abs(more).toFixed(1)} s against nothing broken`;
}

/** Starts an agent again that has been told to end or was killed. */
export async function bringAgentBack({ agent, front }: KubeNode): Promise<void> {
  await front.waitForAgent('gone');
  await agent.restart();
  await front.waitForAgent('healthy');
}

/** What the containers of a namespace on the node say of how their images came; `{}` for one that says nothing. */
export async function pullResultsOf(node: KubeNode, namespace: string): Promise<PullResultAnnotation[]> {
  const cri = { endpoint: node.containerd.endpoint };
  const { containers } = await runCrictl<{
    containers: { id: string; labels: Record<string, string> }[];
  }>(cri, 'ps');
  const wanted = containers.filter(({ labels }) => labels['io.kubernetes.pod.namespace'] === namespace);
  return Promise.all(
    wanted.map(async ({ id }) => {
      const { info } = await runCrictl<{ info: { info: string } }>(cri, 'inspect', id);
      const { annotations } = JSON.parse(info.info).runtimeSpec as { annotations: Record<string, string> };
      return JSON.parse(annotations[RESULT_KEY] ?? '{}');
    }),
  );
}

export interface PullResultAnnotation {
  readonly accelerated?: boolean;
  readonly reason?: string;
  readonly bytes?: { readonly origin: number; readonly peer: number; readonly cache: number };
}

/** Who read layers of the image from the registry: `agent`, `containerd`. */
export function pullersOf({ cluster }: ClusterSite, image: KubeImage): string[] {
  const names = blobRequests(cluster, image).map(({ userAgent }) =>
    USER_AGENT_OF_CONTAINERD.test(userAgent ?? '') ? 'containerd' : 'agent',
  );
  return [...new Set(names)].sort();
}

/** How often each byte of the image's own layers (not of the base that all share) was read from the registry. */
export function originReads({ cluster }: ClusterSite, image: KubeImage): number {
  const own = image.ownDigests.map((digest) =>
    blobRequests(cluster, image).filter(({ path }) => path.includes(digest)),
  );
  const readBytes = own.flat().reduce((sum, { bytes }) => sum + bytes, 0);
  return readBytes / image.ownBytes;
}

function blobRequests(cluster: KubeCluster, { repository }: KubeImage) {
  return cluster.registry.gate.requests({ class: 'blob', method: 'GET', path: `/v2/${repository}/` });
}

function marks({ labels = {}, annotations = {} }: Pod) {
  return { labels, annotations };
}

function podSpec({ name, image, node, pullSecrets = [PULL_SECRET], pullPolicy, spec }: Pod): object {
  return {
    terminationGracePeriodSeconds: 0,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    imagePullSecrets: pullSecrets.map((secret) => ({ name: secret })),
    ...(node && { nodeSelector: { 'kubernetes.io/hostname': node.name } }),
    containers: [
      {
        name,
        image: image.reference,
        imagePullPolicy: pullPolicy ?? 'IfNotPresent',
        command: ['/bin/sleep', '2147483647'],
      },
    ],
    ...spec,
  };
}
