/**
 * Who may import whom. `cli → agent → cri, proxy → pull, policy → (registry, store, containerd, peer) → (swarm, cache,
 * unpack) → base`; a part may also import everything below what it imports. Only `shim/main.ts`, `shim/agent` and
 * the commands in `shim/cli` wire parts together; `front` is a process of its own beside the agent.
 */
const bottom = ['shim/base'];
const data = ['shim/swarm', 'shim/cache', 'shim/unpack', ...bottom];
const ports = ['shim/registry', 'shim/store', 'shim/containerd', 'shim/peer', ...data];
const pulls = ['shim/pull', 'shim/policy', ...ports];
const waysIn = ['shim/cri', 'shim/proxy', ...pulls];
const agent = [
  'shim/agent',
  'shim/kubernetes',
  'shim/warm',
  'shim/config',
  'shim/observe',
  'shim/differ',
  ...waysIn,
];

export interface ImportRule {
  /** Parts, or single files of a part. */
  readonly may: readonly string[];
  readonly why: string;
}

export const importTable: Readonly<Record<string, ImportRule>> = {
  'shim/base': { may: [], why: 'base is what everything else stands on' },
  'shim/swarm': {
    may: bottom,
    why: 'the swarm core runs unchanged in the simulator: no I/O, nothing but base',
  },
  'shim/cache': { may: bottom, why: 'the cache knows chunks and files, not who wants them' },
  'shim/unpack': { may: bottom, why: 'unpacking knows streams and directories, not where they come from' },
  'shim/config': { may: bottom, why: 'settings are data that main hands to the parts' },
  'shim/observe': {
    may: bottom,
    why: 'parts are watched through interfaces of their own, which main connects',
  },
  'shim/registry': { may: data, why: 'ports do not know each other; pull joins them' },
  'shim/store': { may: data, why: 'ports do not know each other; pull joins them' },
  'shim/containerd': {
    may: ['shim/store', ...data],
    why: 'it is one ImageStore; other ports are joined by pull',
  },
  'shim/peer': {
    may: ['shim/registry', ...data],
    why: 'it moves bytes from origin, peers and cache; stores are joined by pull',
  },
  'shim/policy': { may: ports, why: 'the decision is a pure function of a request' },
  'shim/pull': { may: pulls, why: 'it does not know who asks (CRI, CLI or proxy)' },
  'shim/warm': { may: pulls, why: 'it pulls ahead of whoever asks, and is told of pods by the agent' },
  'shim/cri': { may: pulls, why: 'a way in knows pull and what is below it, no other way in' },
  'shim/proxy': { may: pulls, why: 'a way in knows pull and what is below it, no other way in' },
  'shim/differ': {
    may: ['shim/cri', ...ports],
    why: "it unpacks what containerd pulled, by CRI's transport; it starts no pull",
  },
  'shim/front': {
    may: ['shim/cri', 'shim/differ/apply-fallback.ts', ...bottom],
    why: 'the front outlives a broken agent, so it loads the CRI endpoint and next to nothing else',
  },
  'shim/kubernetes': {
    may: ['shim/registry', ...bottom],
    why: 'it tells what the API server says; what follows from that is for others',
  },
  'shim/agent': { may: agent, why: 'it wires the agent, whoever starts it' },
  'shim/cli': { may: agent, why: 'a command wires what it needs, or asks a running agent' },
  shim: {
    may: ['shim/cli', 'shim/front', 'package.json', ...agent],
    why: 'main only tells apart what is to be run',
  },
  nri: {
    may: ['shim/base', 'shim/agent/control-protocol.ts'],
    why: 'the plugin is a process of its own and asks the agent over its socket',
  },
  webhook: { may: bottom, why: 'the webhook is a deployment of its own' },
};

/** Folders that may import everything. */
export const unlimited: readonly string[] = ['hack', 'test'];
