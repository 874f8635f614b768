import { statfsSync } from 'node:fs';
import { join } from 'node:path';
import type { PullEvent } from '../../shim/agent/control-protocol.ts';
import { isDigest } from '../../shim/base/digest.ts';
import { NO_BYTES, type PullSnapshot } from '../../shim/pull/progress.ts';
import { type Agent, startAgent } from '../../test/support/agent.ts';
import { freePort } from '../../test/support/free-port.ts';
import { startContainerd } from '../../test/support/real/containerd.ts';
import { pull, runContainer } from '../../test/support/real/crictl.ts';
import { makeTemporaryRoot } from '../../test/support/real/temporary-root.ts';
import type { DemoNode } from './run-swarm.ts';

/** How long a node's first contact with its peers may take before the pulls begin, ms. */
const SETTLE_MS = 5000;
const SETTLE_POLL_MS = 50;
const LOG_TAIL_LINES = 15;
/** How often a pull by CRI looks for progress, ms. */
const PROGRESS_MS = 200;

/** What a node writes for one image: the layers, their trees, and as much again to be safe. */
const NODE_BYTES = 2_000_000_000;
const MEMORY_DISK = '/dev/shm';
const DISK = '/tmp';

/**
 * Where nodes keep their files: in memory if there is room for all. Four nodes that unpack on one disk at once would show
 * that disk, and an ext4 without a journal slows down from run to run, since it skips recently deleted inodes one by one.
 */
function diskOf(nodes: number): string {
  try {
    const { bavail, bsize } = statfsSync(MEMORY_DISK);
    return bavail * bsize > nodes * NODE_BYTES ? MEMORY_DISK : DISK;
  } catch {
    return DISK;
  }
}

/** Starts one agent a name, as peers of each other or each on its own, lets `use` have them, and takes all away. */
export type WithNodes = <T>(
  names: readonly string[],
  together: boolean,
  use: (nodes: readonly DemoNode[]) => Promise<T>,
) => Promise<T>;

/** Nodes that keep images in directories: no root, no daemon. */
export const withLayoutNodes: WithNodes = async (names, together, use) => {
  await using stack = new AsyncDisposableStack();
  const addresses = await freeAddresses(names.length);
  const disk = stack.use(makeTemporaryRoot('demo', diskOf(names.length)));
  const agents = await Promise.all(
    names.map((name, index) =>
      startAgent({ name, directory: join(disk.path, name), ...peersOf(addresses, index, together) }),
    ),
  );
  for (const agent of agents) stack.use(agent);
  if (together) await settled(agents);
  return await withLogs(agents, () => use(agents));
};

/** Nodes with a real containerd each, asked through CRI as kubelet and crictl do. Pods start with `sandboxImage`. */
export function containerdNodes(sandboxImage: string): WithNodes {
  return async (names, together, use) => {
    await using stack = new AsyncDisposableStack();
    const addresses = await freeAddresses(names.length);
    const disk = stack.use(makeTemporaryRoot('demo', diskOf(names.length)));
    const agents: Agent[] = [];
    for (const [index, name] of names.entries()) {
      const containerd = stack.use(await startContainerd({ sandboxImage, root: join(disk.path, name) }));
      const peers = peersOf(addresses, index, together);
      agents.push(stack.use(await startAgent({ name, containerd: containerd.socket, ...peers })));
    }
    if (together) await settled(agents);
    return await withLogs(agents, () => use(agents.map(criNode)));
  };
}

export function criNode(agent: Agent): DemoNode {
  const endpoint = agent.criSocket;
  return {
    name: agent.name,
    pull: (image, signal) => pullByCri(agent, image, signal),
    run: async (image, command) => (await runContainer({ endpoint }, { image, command })).output,
  };
}

/** CRI has no progress: that comes from the agent's status. */
async function* pullByCri(agent: Agent, image: string, signal: AbortSignal): AsyncGenerator<PullEvent> {
  const startedMs = performance.now();
  let imageId: string | undefined;
  let last: PullSnapshot = { reference: image, digest: undefined, layers: [], counts: NO_BYTES };
  const pulling = pull({ endpoint: agent.criSocket, signal }, image).then((id) => {
    imageId = id;
  });
  while (imageId === undefined) {
    await Promise.race([pulling, new Promise((resolve) => setTimeout(resolve, PROGRESS_MS))]);
    last = (await agent.status()).pulls.find((each) => each.reference === image) ?? last;
    yield { kind: 'progress', pull: last };
  }
  const { originBytes = 0, peerBytes = 0, cacheBytes = 0 } = (await agent.status()).totals;
  const imageBytes = last.layers.reduce((sum, layer) => sum + layer.sizeBytes, 0);
  const seconds = (performance.now() - startedMs) / 1000;
  if (!isDigest(imageId) || last.digest === undefined)
    throw new Error(`Cannot pull "${image}": no image ID came`);
  const counts = { originBytes, peerBytes, cacheBytes };
  yield {
    kind: 'done',
    imageId,
    digest: last.digest,
    imageBytes,
    counts,
    seconds,
    pull: { ...last, counts },
  };
}

/** What goes wrong in an agent stands in its log, which goes away with the agent. */
async function withLogs<T>(agents: readonly Agent[], use: () => Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (error) {
    for (const agent of agents) {
      const state = agent.isRunning() ? 'running' : 'ended';
      const tail = agent.log().trimEnd().split('\n').slice(-LOG_TAIL_LINES).join('\n');
      process.stderr.write(`log of ${agent.name} (${state}):\n${tail}\n`);
    }
    throw error;
  }
}

async function freeAddresses(count: number): Promise<string[]> {
  const ports = await Promise.all(Array.from({ length: count }, freePort));
  return ports.map((port) => `127.0.0.1:${port}`);
}

function peersOf(
  addresses: readonly string[],
  self: number,
  together: boolean,
): { listen: string; peers: string[] } {
  const listen = addresses[self] ?? '';
  return { listen, peers: together ? addresses.filter((address) => address !== listen) : [] };
}

/** Waits until every agent knows of all others: the demo shows pulls, not the start of agents. */
async function settled(agents: readonly Agent[]): Promise<void> {
  const deadlineMs = performance.now() + SETTLE_MS;
  for (const agent of agents) {
    while ((await agent.status()).peersKnown < agents.length - 1 && performance.now() < deadlineMs)
      await new Promise((resolve) => setTimeout(resolve, SETTLE_POLL_MS));
  }
}
