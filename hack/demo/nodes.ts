import { type Agent, freePort, startAgent } from '../../test/support/agent.ts';
import { startContainerd } from '../../test/support/real/containerd.ts';
import type { DemoNode } from './run-swarm.ts';

/** How long a node's first contact with its peers may take before the pulls begin, ms. */
const SETTLE_MS = 5000;
const SETTLE_POLL_MS = 50;

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
  const agents = await Promise.all(
    names.map((name, index) => startAgent({ name, ...peersOf(addresses, index, together) })),
  );
  for (const agent of agents) stack.use(agent);
  if (together) await settled(agents);
  return await use(agents);
};

/** Nodes with a real containerd each, asked through their agents. */
export const withContainerdNodes: WithNodes = async (names, together, use) => {
  await using stack = new AsyncDisposableStack();
  const addresses = await freeAddresses(names.length);
  const agents: Agent[] = [];
  for (const [index, name] of names.entries()) {
    const containerd = stack.use(await startContainerd());
    const peers = peersOf(addresses, index, together);
    agents.push(stack.use(await startAgent({ name, containerd: containerd.socket, ...peers })));
  }
  if (together) await settled(agents);
  return await use(agents);
};

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
