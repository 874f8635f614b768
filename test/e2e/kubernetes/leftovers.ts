import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { runCrictl } from '../../support/real/crictl.ts';
import type { KubeNode } from '../../support/real/kube-node.ts';

const OURS = `-${process.pid}-`;

/**
 * What this process has made on the machine and not removed, one line each: processes, network namespaces, interfaces,
 * mounts, folders, and what the given pods and containers have outside of the nodes' folders.
 */
export function leftovers(ids: readonly string[]): string[] {
  return [...processes(), ...network(), ...mounts(), ...files(), ...ids.flatMap(tracesOf)].sort();
}

/** Of all pods and containers that the node has now. */
export async function idsOf({ containerd: { endpoint } }: KubeNode): Promise<string[]> {
  const { items = [] } = await runCrictl<{ items?: { id: string }[] }>({ endpoint }, 'pods');
  const { containers = [] } = await runCrictl<{ containers?: { id: string }[] }>({ endpoint }, 'ps');
  return [...items, ...containers].map(({ id }) => id);
}

/** Control groups, and what CNI remembers of a pod's network. */
function tracesOf(id: string): string[] {
  const hierarchies = listQuietly('/sys/fs/cgroup').map((name) => `/sys/fs/cgroup/${name}/k8s.io/${id}`);
  const groups = [`/sys/fs/cgroup/k8s.io/${id}`, ...hierarchies].filter((path) => existsSync(path));
  const results = listQuietly('/var/lib/cni/results').filter((name) => name.includes(id));
  return [...groups, ...results.map((name) => `/var/lib/cni/results/${name}`)];
}

/** By what their command lines name: every daemon is started with a path below a folder of this process. */
function processes(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map((pid) => ({ pid, command: readQuietly(`/proc/${pid}/cmdline`).replaceAll('\0', ' ') }))
    .filter(({ command }) => command.includes(OURS))
    .map(({ pid, command }) => `process ${pid} ${command}`);
}

function network(): string[] {
  const namespaces = listQuietly('/var/run/netns').filter((name) => name.includes(OURS));
  const links = listQuietly('/sys/class/net').filter((name) => name.includes(`${process.pid}`));
  return [...namespaces.map((name) => `namespace ${name}`), ...links.map((name) => `interface ${name}`)];
}

function mounts(): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.filter((line) => line.includes(OURS)).map((line) => `mount ${line.split(' ')[4]}`);
}

function files(): string[] {
  const ours = listQuietly('/tmp').filter((name) => name.includes(OURS));
  return [...ours.map((name) => `/tmp/${name}`), ...logLinks()];
}

/** kubelet keeps links to logs of containers outside of its own folders; they dangle when the logs are gone. */
function logLinks(): string[] {
  const folder = '/var/log/containers';
  return listQuietly(folder)
    .filter((name) => !existsSync(`${folder}/${name}`))
    .map((name) => `${folder}/${name}`);
}

function listQuietly(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

function readQuietly(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
