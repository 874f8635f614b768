import { networkInterfaces } from 'node:os';
import { resolve } from 'node:path';
import { makeManifests } from '../../hack/deploy/kubernetes/webhook/manifests.ts';
import { freePort } from './free-port.ts';
import { type Daemon, startDaemon } from './real/daemon.ts';
import { type KubeApi, kubeApiSkipReason } from './real/kube-api.ts';
import { makeTemporaryRoot } from './real/temporary-root.ts';

const LAUNCHER = resolve(import.meta.dirname, '../../webhook/shoal-webhook');
const READY_TIMEOUT_MS = 60_000;

export const OWN_NAMESPACE = 'shoal-system';
export const MODE_KEY = 'k8s.aliyun.com/image-accelerate-mode';
export const CONFIG_KEY = 'k8s.aliyun.com/p2p-config';
/** A registry with a peer-to-peer form under the default rules, and that form. */
export const REGISTRY = 'test-registry-vpc.cn-hangzhou.cr.aliyuncs.com';
export const P2P_REGISTRY = 'test-registry-vpc.distributed.cn-hangzhou.cr.aliyuncs.com:65001';

/** The webhook as its manifests install it, but with replicas that are processes here. */
export interface InstalledWebhook {
  readonly api: KubeApi;
  /** Carries the rights of the webhook's service account and no others. */
  readonly kubeconfig: string;
  readonly namespaces: readonly string[];
}

export interface Replica extends AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  readonly port: number;
  readonly ended: Promise<void>;
  /** Whether `/readyz` says so. */
  isReady(): Promise<boolean>;
  /** The value of one line of `/metrics`, such as `shoal_webhook_leader`; undefined where there is none. */
  metric(line: string): Promise<number | undefined>;
  log(): string;
  kill(signal: NodeJS.Signals): void;
  stop(): Promise<void>;
}

/** Null when the webhook can be tried here, else one line for a skip message. */
export function webhookSkipReason(): string | null {
  if (ownAddress() === undefined)
    return 'needs an IPv4 address besides loopback, which is no valid endpoint of a Service';
  return kubeApiSkipReason();
}

/** Makes the namespaces, each with the service account that pods need, and applies the manifests. */
export async function installWebhook(
  api: KubeApi,
  options: { readonly namespaces: readonly string[]; readonly others?: readonly string[] },
): Promise<InstalledWebhook> {
  const { namespaces, others = [] } = options;
  await api.kubectl.apply(...[...namespaces, ...others].flatMap((name) => namespaceObjects(name)));
  const manifests = makeManifests({
    ownNamespace: OWN_NAMESPACE,
    namespaces,
    image: 'registry.example/shoal:test',
    keyPrefix: 'k8s.aliyun.com',
    args: [],
  });
  await api.kubectl.apply(...manifests);
  const token = await api.serviceAccountToken(OWN_NAMESPACE, 'shoal-webhook');
  return { api, kubeconfig: api.kubeconfigWith(token), namespaces };
}

/** Starts a replica, and lets the Service lead to it once it is ready. */
export async function startReplica(
  webhook: InstalledWebhook,
  name: string,
  args: readonly string[] = [],
): Promise<Replica> {
  const root = makeTemporaryRoot('whk');
  const [port, healthPort, address] = [await freePort(), await freePort(), ownAddress() as string];
  const daemon = startDaemon({
    name,
    command: LAUNCHER,
    args: [
      ...[`--listen=${address}:${port}`, `--health-listen=127.0.0.1:${healthPort}`],
      ...[`--kubeconfig=${webhook.kubeconfig}`, `--identity=${name}`, '--drain-seconds=1'],
      ...webhook.namespaces.map((namespace) => `--namespace=${namespace}`),
      ...args,
    ],
    logPath: `${root.path}/webhook.log`,
  });
  const ask = (path: string) => fetch(`http://127.0.0.1:${healthPort}${path}`);
  const isReady = async () => (await ask('/readyz').catch(() => undefined))?.status === 200;
  let lastLog: string | undefined;
  const log = () => lastLog ?? daemon.log();
  const stop = async () => {
    await daemon.stop();
    lastLog ??= daemon.log();
    root.remove();
  };
  try {
    await daemon.waitUntil('to be ready', async () => (await isReady()) || undefined, READY_TIMEOUT_MS);
    await addEndpoint(webhook.api, name, address, port);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    ...handle(daemon, port),
    log,
    isReady,
    metric: (line) => readMetric(ask, line),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** A pod that no node will ever run. */
export function podManifest(
  namespace: string,
  name: string,
  change: {
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly secrets?: readonly string[];
    readonly image?: string;
  } = {},
): object {
  const { labels, annotations, secrets = [], image = `${REGISTRY}/team/web:1` } = change;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, ...(labels && { labels }), ...(annotations && { annotations }) },
    spec: {
      imagePullSecrets: secrets.map((secret) => ({ name: secret })),
      containers: [{ name: 'main', image }],
    },
  };
}

export function dockerSecret(namespace: string, name: string, auths: object): object {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    type: 'kubernetes.io/dockerconfigjson',
    metadata: { name, namespace },
    stringData: { '.dockerconfigjson': JSON.stringify({ auths }) },
  };
}

function handle(daemon: Daemon, port: number) {
  const { name, pid, ended, kill } = daemon;
  return { name, pid, port, ended, kill };
}

async function readMetric(
  ask: (path: string) => Promise<Response>,
  line: string,
): Promise<number | undefined> {
  const text = await (await ask('/metrics')).text();
  const found = text.split('\n').find((each) => each.startsWith(`${line} `));
  return found === undefined ? undefined : Number(found.slice(line.length + 1));
}

function namespaceObjects(name: string): object[] {
  return [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name } },
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace: name } },
  ];
}

async function addEndpoint(api: KubeApi, name: string, address: string, port: number): Promise<void> {
  await api.kubectl.apply({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name,
      namespace: OWN_NAMESPACE,
      labels: { 'kubernetes.io/service-name': 'shoal-webhook' },
    },
    addressType: 'IPv4',
    endpoints: [{ addresses: [address], conditions: { ready: true } }],
    ports: [{ name: 'https', port, protocol: 'TCP' }],
  });
}

function ownAddress(): string | undefined {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return all.find(({ family, internal }) => family === 'IPv4' && !internal)?.address;
}
