import { mkdirSync, readdirSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { componentPath } from './components.ts';
import { runCrictl } from './crictl.ts';
import { type Daemon, startDaemon } from './daemon.ts';
import { makeTemporaryRoot, type TemporaryRoot } from './temporary-root.ts';

const READY_TIMEOUT_MS = 60_000;
const POD_POLL_MS = 200;
/** kubelet keeps links to container logs here; the folder is not to be set. */
const CONTAINER_LINKS = '/var/log/containers';

export interface KubeletOptions {
  /** A socket path or URL: where pods and containers are made. */
  readonly runtimeEndpoint: string;
  /** Where images are pulled. Default: the runtime endpoint. */
  readonly imageEndpoint?: string;
  readonly nodeName?: string;
  /** Joins a cluster: the node's own kubeconfig. Default: it knows static pods only. */
  readonly kubeconfig?: string;
  /** Default 127.0.0.1. */
  readonly address?: string;
  /** Runs it in a network namespace. */
  readonly enter?: readonly string[];
}

export interface StaticPod {
  readonly name: string;
  readonly image: string;
  readonly command: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Default IfNotPresent. */
  readonly imagePullPolicy?: 'Always' | 'IfNotPresent' | 'Never';
  /** Default Never. */
  readonly restartPolicy?: 'Always' | 'OnFailure' | 'Never';
}

export interface PodContainer {
  readonly id: string;
  readonly state: 'CONTAINER_CREATED' | 'CONTAINER_RUNNING' | 'CONTAINER_EXITED' | 'CONTAINER_UNKNOWN';
  readonly imageRef: string;
}

export interface Kubelet extends AsyncDisposable {
  readonly pid: number;
  readonly root: string;
  /** Hands kubelet a static pod on the host network. */
  addPod(pod: StaticPod): void;
  removePod(name: string): void;
  /** Waits until the pod's container is in that state (default: running or ended) in the runtime. */
  waitForPod(
    name: string,
    options?: { state?: PodContainer['state']; timeoutMs?: number },
  ): Promise<PodContainer>;
  log(): string;
  /** Ends it; its pods run on. */
  halt(): Promise<void>;
  /** Starts it again with what it remembers. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a real kubelet, without an API server unless it is given one. Root only. Needs crictl-go to watch pods. */
export async function startKubelet(options: KubeletOptions): Promise<Kubelet> {
  const root = makeTemporaryRoot('kub');
  const pods = `${root.path}/manifests`;
  mkdirSync(pods);
  writeFileSync(`${root.path}/config.json`, JSON.stringify(configuration(options, root)));
  let daemon: Daemon | undefined;
  const current = () => daemon as Daemon;
  const start = async () => {
    daemon = await launchKubelet(options, root);
  };
  const stop = async () => {
    await daemon?.stop();
    removeContainerLinks(root.path);
    root.remove();
  };
  try {
    await start();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    get pid() {
      return current().pid;
    },
    root: root.path,
    addPod: (pod) => writeManifest(pods, pod),
    removePod: (name) => rmSync(`${pods}/${name}.json`, { force: true }),
    waitForPod: (name, { state, timeoutMs = READY_TIMEOUT_MS } = {}) =>
      current().waitUntil(`pod ${name}`, () => findContainer(options, name, state), timeoutMs),
    log: () => current().log(),
    halt: () => current().stop(),
    start,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function launchKubelet(options: KubeletOptions, root: TemporaryRoot): Promise<Daemon> {
  const logPath = `${root.path}/kubelet.log`;
  // It appends: what an earlier process said does not tell that this one is ready.
  rmSync(logPath, { force: true });
  const daemon = startDaemon({
    name: 'kubelet',
    command: `${componentPath('kubelet')}/kubelet`,
    args: [
      `--config=${root.path}/config.json`,
      `--root-dir=${root.path}/kubelet`,
      `--cert-dir=${root.path}/pki`,
      `--hostname-override=${options.nodeName ?? 'test-node'}`,
      `--node-ip=${options.address ?? '127.0.0.1'}`,
      ...(options.kubeconfig === undefined ? [] : [`--kubeconfig=${options.kubeconfig}`]),
    ],
    logPath,
    enter: options.enter ?? [],
  });
  const started = () => /Starting kubelet main sync loop/.test(daemon.log());
  await daemon.waitUntil('to start', started, READY_TIMEOUT_MS).catch(async (error: unknown) => {
    await daemon.stop();
    throw error;
  });
  return daemon;
}

function configuration(options: KubeletOptions, root: TemporaryRoot): object {
  const { path } = root;
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    staticPodPath: `${path}/manifests`,
    fileCheckFrequency: '1s',
    syncFrequency: '1s',
    containerRuntimeEndpoint: asUrl(options.runtimeEndpoint),
    imageServiceEndpoint: asUrl(options.imageEndpoint ?? options.runtimeEndpoint),
    podLogsDir: `${path}/pods`,
    volumePluginDir: `${path}/volume-plugins`,
    // Without a network of its own it serves nothing: tests look at the runtime, and no port can be taken.
    ...(options.enter === undefined
      ? { enableServer: false }
      : { address: options.address ?? '127.0.0.1', readOnlyPort: 0 }),
    healthzPort: 0,
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: 'AlwaysAllow' },
    // Machines for tests may have cgroup v1, swap, and cgroups that cannot be limited.
    failCgroupV1: false,
    failSwapOn: false,
    cgroupDriver: 'cgroupfs',
    cgroupsPerQOS: false,
    enforceNodeAllocatable: [],
    makeIPTablesUtilChains: false,
    localStorageCapacityIsolation: false,
    resolvConf: '',
    // There is no name service; kubelet warns of each pod where it is given none.
    ...(options.kubeconfig !== undefined && { clusterDNS: ['10.96.0.10'] }),
    // A full disk of the machine must not evict the one pod that a test waits for.
    imageGCHighThresholdPercent: 100,
    evictionHard: { 'memory.available': '1Mi', 'nodefs.available': '1Mi', 'imagefs.available': '1Mi' },
  };
}

/**
 * By rename: kubelet watches the folder and would read half a file. As JSON, which kubelet takes too: its YAML is 1.1,
 * where a bare `on` is a boolean.
 */
function writeManifest(folder: string, pod: StaticPod): void {
  const { name, image, command, imagePullPolicy = 'IfNotPresent', restartPolicy = 'Never' } = pod;
  const manifest = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', labels: pod.labels ?? {}, annotations: pod.annotations ?? {} },
    spec: {
      hostNetwork: true,
      restartPolicy,
      terminationGracePeriodSeconds: 1,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      containers: [{ name, image, command, imagePullPolicy }],
    },
  };
  writeFileSync(`${folder}/.${name}.tmp`, JSON.stringify(manifest));
  renameSync(`${folder}/.${name}.tmp`, `${folder}/${name}.json`);
}

async function findContainer(
  options: KubeletOptions,
  name: string,
  state: PodContainer['state'] | undefined,
): Promise<PodContainer | undefined> {
  const { containers } = await runCrictl<{ containers: (PodContainer & { metadata: { name: string } })[] }>(
    { endpoint: options.runtimeEndpoint },
    'ps',
  );
  const wanted = state === undefined ? ['CONTAINER_RUNNING', 'CONTAINER_EXITED'] : [state];
  const found = containers.find((one) => one.metadata.name === name && wanted.includes(one.state));
  // Each look starts a process; it need not be done as often as looks at a log.
  if (found === undefined) await sleep(POD_POLL_MS);
  return found && { id: found.id, state: found.state, imageRef: found.imageRef };
}

function removeContainerLinks(root: string): void {
  for (const entry of readdirSync(CONTAINER_LINKS, { withFileTypes: true })) {
    const path = `${CONTAINER_LINKS}/${basename(entry.name)}`;
    if (entry.isSymbolicLink() && readlinkSync(path).startsWith(root)) rmSync(path, { force: true });
  }
}

function asUrl(address: string): string {
  return address.startsWith('/') ? `unix://${address}` : address;
}
