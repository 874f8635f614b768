import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import {
  createNetwork,
  type LinkRates,
  type Network,
  networkSkipReason,
} from '../../../hack/cluster/network.ts';
import { pushImage } from '../images/push-image.ts';
import { buildSampleImage, buildSandboxImage } from '../images/samples.ts';
import { componentsAvailable, containerdSkipReason } from './components.ts';
import { writeHostsToml } from './hosts-toml.ts';
import { testedVersion } from './import-site.ts';
import { type KubeApi, kubeApiSkipReason, startKubeApi } from './kube-api.ts';
import { CONTROL_USERS, type KubeControl, startKubeControl } from './kube-control.ts';
import { type KubeNode, kubeNodeUser, startKubeNode } from './kube-node.ts';
import type { Kubectl } from './kubectl.ts';
import { startRegistry } from './registry.ts';
import { type RegistryGate, startRegistryGate } from './registry-gate.ts';
import { makeTemporaryRoot } from './temporary-root.ts';

const AGENT_RBAC = resolve(import.meta.dirname, '../../../hack/deploy/kubernetes/agent/rbac.yaml');
/** It has a P2P form by the default rules. No name service knows it: hosts.toml leads to the registry. */
const REGISTRY = 'test-registry-vpc.cn-hangzhou.cr.aliyuncs.com';
/** What the network plugins remember; containerd has no setting for it. The files go with their pods. */
const CNI_FOLDERS = ['/var/lib/cni/results', '/var/lib/cni'];
const NODES_READY_TIMEOUT_SECONDS = 120;

export interface KubeClusterOptions {
  readonly nodes: number;
  readonly link: LinkRates;
  /** The registry's own uplink. */
  readonly registryBytesPerSecond: number;
}

/** The registry as pods name it: behind a password that can be changed, with counts of what was read. */
export interface KubeRegistry {
  /** As in references of images. */
  readonly host: string;
  readonly user: string;
  /** What is asked for now. */
  password: string;
  readonly gate: RegistryGate;
  /** The rate of its uplink at the start. */
  readonly rateBytesPerSecond: number;
  /** Makes an image with a layer of each size on a base that all share, and pushes it past the gate. */
  push(repository: string, layerSizesBytes: readonly number[]): Promise<KubeImage>;
}

export interface KubeImage {
  readonly reference: string;
  readonly repository: string;
  /** Its layers above the base that all images share. */
  readonly ownDigests: readonly string[];
  readonly ownBytes: number;
}

export interface KubeCluster extends AsyncDisposable {
  /** Of each node, at the start. */
  readonly link: LinkRates;
  readonly api: KubeApi;
  readonly kubectl: Kubectl;
  readonly network: Network;
  readonly registry: KubeRegistry;
  readonly nodes: readonly KubeNode[];
  stop(): Promise<void>;
}

/** Null when a cluster can be started here, else one line for a skip message. */
export function kubeClusterSkipReason(): string | null {
  return (
    containerdSkipReason(testedVersion, 'crictl-go', 'kubelet') ??
    componentsAvailable('cni-plugins') ??
    kubeApiSkipReason() ??
    networkSkipReason()
  );
}

/** Starts a whole cluster, each node in a network namespace with a limited link. About a gigabyte of memory for three. */
export async function startKubeCluster(options: KubeClusterOptions): Promise<KubeCluster> {
  await using stack = new AsyncDisposableStack();
  const madeFolders = CNI_FOLDERS.filter((folder) => !existsSync(folder));
  // It fails while another cluster uses them.
  stack.defer(() => void spawnSync('rmdir', madeFolders, { stdio: 'ignore' }));
  const network = stack.use(createNetwork({ nodes: Array(options.nodes).fill(options.link) }));
  const names = network.nodes.map((_, index) => `node-${index + 1}`);
  const users = [...Object.values(CONTROL_USERS), ...names.map(kubeNodeUser)];
  const api = stack.use(
    await startKubeApi({
      address: network.address,
      users,
      // Names of nodes are known to no name service.
      extraArgs: ['--kubelet-preferred-address-types=InternalIP'],
    }),
  );
  stack.use((await startKubeControl(api)) satisfies KubeControl);
  await api.kubectl.run('apply', '-f', AGENT_RBAC);
  const agentKubeconfig = api.kubeconfigWith(await api.serviceAccountToken('shoal-system', 'shoal-agent'));
  const origin = stack.use(await startOrigin(network.address, options.registryBytesPerSecond));
  const starts = network.nodes.map(async (link, index) =>
    stack.use(
      await startKubeNode({
        name: names[index] ?? '',
        link,
        api,
        configPath: origin.configPath,
        sandboxImage: origin.sandboxImage,
        peers: network.nodes.filter((other) => other !== link).map(({ address }) => address),
        podSubnet: `10.88.${index + 1}.0/24`,
        agentKubeconfig,
      }),
    ),
  );
  // When one fails the others are stopped, so they have to be there.
  await Promise.allSettled(starts);
  const nodes = await Promise.all(starts);
  for (const name of names) await waitForNode(api, name);
  const owned = stack.move();
  const stop = async () => {
    // Together: each has pods to end.
    await Promise.all(nodes.map((node) => node.stop()));
    await owned.disposeAsync();
  };
  return {
    link: options.link,
    api,
    kubectl: api.kubectl,
    network,
    registry: origin.registry,
    nodes,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** A kubelet that runs makes its node some moments later. */
async function waitForNode({ kubectl }: KubeApi, name: string): Promise<void> {
  const timeout = `--timeout=${NODES_READY_TIMEOUT_SECONDS}s`;
  await kubectl.run('wait', '--for=create', `node/${name}`, timeout);
  await kubectl.run('wait', '--for=condition=Ready', `node/${name}`, timeout);
}

/** One store behind two gates: one that asks for a password, and one for what nodes need before any pod. */
async function startOrigin(address: string, rateBytesPerSecond: number) {
  await using stack = new AsyncDisposableStack();
  const store = stack.use(await startRegistry());
  const credentials = { user: 'team', password: 'first' };
  const gate = stack.use(
    await startRegistryGate({ upstream: store.url, address, rateBytesPerSecond, basic: credentials }),
  );
  const open = stack.use(await startRegistryGate({ upstream: store.url, address }));
  const folder = stack.adopt(makeTemporaryRoot('hosts'), (made) => made.remove());
  writeHostsToml({ configPath: folder.path, registry: REGISTRY, server: gate.url, hosts: [] });
  writeHostsToml({ configPath: folder.path, registry: open.host, server: open.url, hosts: [] });
  using sandbox = await buildSandboxImage();
  await pushImage(sandbox, { host: store.host, repository: 'pause', tag: 'v1' });
  const owned = stack.move();
  return {
    configPath: folder.path,
    sandboxImage: `${open.host}/pause:v1`,
    registry: {
      host: REGISTRY,
      user: credentials.user,
      get password() {
        return credentials.password;
      },
      set password(password: string) {
        credentials.password = password;
      },
      gate,
      rateBytesPerSecond,
      push: async (repository: string, layerSizesBytes: readonly number[]): Promise<KubeImage> => {
        using image = await buildSampleImage({ layerSizesBytes, seed: repository });
        await pushImage(image, { host: store.host, repository, tag: 'v1' });
        const own = image.layers.slice(1);
        return {
          reference: `${REGISTRY}/${repository}:v1`,
          repository,
          ownDigests: own.map(({ digest }) => digest),
          ownBytes: own.reduce((sum, { size }) => sum + size, 0),
        };
      },
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
