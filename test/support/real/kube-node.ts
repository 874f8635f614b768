import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { NetworkNode } from '../../../hack/cluster/network.ts';
import type { Agent } from '../agent.ts';
import { type Front, startAgentBehind, startFront } from '../front.ts';
import { type NriPlugin, nriSocketOf, startNriPlugin } from '../nri.ts';
import { componentPath, componentsAvailable } from './components.ts';
import { type Containerd, startContainerd } from './containerd.ts';
import { runCrictl } from './crictl.ts';
import { testedVersion } from './import-site.ts';
import type { KubeApi } from './kube-api.ts';
import { type Kubelet, startKubelet } from './kubelet.ts';

/** Where peers talk, as shipped. */
const PEER_PORT = 65002;

export interface KubeNodeOptions {
  readonly name: string;
  readonly link: NetworkNode;
  readonly api: KubeApi;
  /** containerd's folder of hosts.toml files. */
  readonly configPath: string;
  readonly sandboxImage: string;
  /** Addresses of the other nodes. */
  readonly peers: readonly string[];
  /** Pods of the node get addresses of this /24. */
  readonly podSubnet: string;
  /** The agent's own, with the rights of its service account. */
  readonly agentKubeconfig: string;
}

/** A node as the systemd units would start it: containerd, front, agent behind it, NRI plugin, and a kubelet that pulls from the front. */
export interface KubeNode extends AsyncDisposable {
  readonly name: string;
  readonly link: NetworkNode;
  readonly containerd: Containerd;
  readonly nri: NriPlugin;
  readonly front: Front;
  readonly kubelet: Kubelet;
  readonly agent: Agent;
  stop(): Promise<void>;
}

/** The user that startKubeApi() has to know for a node to join. */
export function kubeNodeUser(name: string) {
  return { name: `system:node:${name}`, groups: ['system:nodes'] };
}

export async function startKubeNode(options: KubeNodeOptions): Promise<KubeNode> {
  const { name, link, api, configPath, sandboxImage } = options;
  const { enter, address } = link;
  await using stack = new AsyncDisposableStack();
  const containerd = stack.use(
    await startContainerd({
      version: testedVersion,
      configPath,
      sandboxImage,
      enter,
      userNamespaces: componentsAvailable('runc-1.2') === null,
      cniPlugins: componentPath('cni-plugins'),
    }),
  );
  writeCni(join(dirname(containerd.stateDir), 'own/cni'), options.podSubnet);
  const kubeletKubeconfig = api.kubeconfigOf(kubeNodeUser(name).name);
  const front = stack.use(await startFront({ containerd: containerd.socket, enter }));
  const agent = stack.use(
    await startAgentBehind(front, {
      name,
      containerd: containerd.socket,
      containerdConfigPath: configPath,
      enter,
      settings: {
        node: { address },
        peers: peerSettings(options),
        kubernetes: {
          kubeconfig: options.agentKubeconfig,
          nodeName: name,
          watchNamespaces: true,
          watchPods: true,
          kubeletKubeconfig,
        },
      },
    }),
  );
  const nri = stack.use(
    startNriPlugin({ nriSocket: nriSocketOf(containerd), agentSocket: agent.controlSocket }),
  );
  await nri.waitForLine(/^Synchronized/);
  const kubelet = stack.use(
    await startKubelet({
      runtimeEndpoint: containerd.socket,
      imageEndpoint: front.socket,
      nodeName: name,
      kubeconfig: kubeletKubeconfig,
      address,
      enter,
    }),
  );
  const owned = stack.move();
  const stopAll = async () => {
    await kubelet.halt();
    await removePods(containerd).finally(() => owned.disposeAsync());
  };
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= stopAll();
    return stopping;
  };
  return {
    name,
    link,
    containerd,
    nri,
    front,
    kubelet,
    agent,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** By CRI, as kubelet does it: what runc and the network plugins keep outside of their folders goes with the pod alone. */
async function removePods({ endpoint }: Containerd): Promise<void> {
  const { items = [] } = await runCrictl<{ items?: { id: string }[] }>({ endpoint }, 'pods');
  for (const { id } of items) {
    await runCrictl({ endpoint }, 'stopp', id);
    await runCrictl({ endpoint }, 'rmp', id);
  }
}

/** In plain text: nothing but the nodes is in their network. */
function peerSettings({ link, peers }: KubeNodeOptions): object {
  const port = (address: string) => `${address}:${PEER_PORT}`;
  return { listen: port(link.address), static: peers.map(port), insecure: true };
}

/** Pods get an address of the node's own subnet, which its kubelet can reach; nothing goes out of the node. */
function writeCni(folder: string, subnet: string): void {
  const ipam = { type: 'host-local', dataDir: `${dirname(folder)}/cni-data`, ranges: [[{ subnet }]] };
  const network = { cniVersion: '1.0.0', name: `pods-${process.pid}`, plugins: [{ type: 'ptp', ipam }] };
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/10-pods.conflist`, JSON.stringify(network));
}
