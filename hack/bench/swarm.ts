import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Agent, type AgentOptions, pullToEnd, startAgent } from '../../test/support/agent.ts';
import type { BuiltImage } from '../../test/support/images/build-image.ts';
import { pushImage } from '../../test/support/images/push-image.ts';
import { buildSampleImage } from '../../test/support/images/samples.ts';
import { componentsAvailable, containerdSkipReason } from '../../test/support/real/components.ts';
import { startContainerd } from '../../test/support/real/containerd.ts';
import { pull } from '../../test/support/real/crictl.ts';
import { writeHostsToml } from '../../test/support/real/hosts-toml.ts';
import { type Registry, startRegistry } from '../../test/support/real/registry.ts';
import { type RegistryGate, startRegistryGate } from '../../test/support/real/registry-gate.ts';
import { makeTemporaryRoot } from '../../test/support/real/temporary-root.ts';
import { createNetwork, type Network, type NetworkNode, networkSkipReason } from '../cluster/network.ts';
import { sampleImage } from '../demo/sample-image.ts';
import { percentile } from './median.ts';
import { cpuSecondsOfTree } from './process-usage.ts';
import { predictP95Seconds } from './swarm-prediction.ts';
import { type UsedMemory, useMemory } from './used-memory.ts';

const IMAGE = resolve(import.meta.dirname, '../../.cache/demo/image');
const PEER_PORT = 65002;

const PULL_TIMEOUT_MS = 600_000;
const POLL_MS = 100;
/** Of the image that nodes pull first: a node's agent runs for weeks, and only its first pull compiles the agent's own code. */
const WARM_UP_LAYERS_BYTES = [12_000_000, 12_000_000];

/** What the bench is asked for. Rates are bits a second. */
interface Setting {
  readonly nodes: number;
  readonly linkBitsPerSecond: number;
  readonly originBitsPerSecond: number;
  readonly withContainerd: boolean;
  /** Agents that have just started, and never pulled before. */
  readonly isCold: boolean;
}

interface Pulls {
  readonly ends: readonly NodeEnd[];
  /** Of agents and containerds, while they pulled. */
  readonly cpuSeconds: number;
}

interface BenchNode extends AsyncDisposable {
  readonly agent: Agent;
  readonly pull: (reference: string) => Promise<void>;
  /** Of the agent and its containerd, since they were started. */
  readonly cpuSeconds: () => number;
}

interface NodeEnd {
  readonly seconds: number;
  readonly firstByteSeconds: number;
  readonly receivedBytes: number;
}

/**
 * `make bench-swarm`: nodes in network namespaces with limited links pull one image at once, against what the links allow and
 * what the simulator says of the same setting. One JSON line.
 */
async function main(): Promise<void> {
  const setting = readSetting();
  const skip =
    networkSkipReason() ??
    componentsAvailable('registry') ??
    (setting.withContainerd ? containerdSkipReason('2.1', 'crictl-go') : null);
  if (skip !== null) return console.error(`SKIP: ${skip}`);
  const image = await sampleImage({ directory: IMAGE, runnable: setting.withContainerd });
  using memory = useMemory();
  await using registry = await startRegistry();
  await pushImage(image, { host: registry.host, repository: 'bench/app', tag: 'v1' });
  using warmUp = await buildSampleImage({ layerSizesBytes: WARM_UP_LAYERS_BYTES });
  await pushImage(warmUp, { host: registry.host, repository: 'bench/warm-up', tag: 'v1' });
  const rates = { upBitsPerSecond: setting.linkBitsPerSecond, downBitsPerSecond: setting.linkBitsPerSecond };
  using network = createNetwork({ nodes: Array.from({ length: setting.nodes }, () => rates) });
  await using gate = await startRegistryGate({
    upstream: registry.url,
    address: network.address,
    rateBytesPerSecond: setting.originBitsPerSecond / 8,
  });
  const aloneCpuSeconds = await cpuSecondsAlone(setting, registry, memory);
  const pulls = await pullOnAll({ setting, network, gate, memory });
  const originBytes = gate.count({ class: 'blob' }).bytes;
  report({ setting, image, originBytes, aloneCpuSeconds, ...pulls });
}

function readSetting(): Setting {
  const { NODES = '16', LINK = '100mbit', ORIGIN = '200mbit', CONTAINERD = '', COLD = '' } = process.env;
  return {
    nodes: Number(NODES),
    linkBitsPerSecond: bitsPerSecond(LINK),
    originBitsPerSecond: bitsPerSecond(ORIGIN),
    withContainerd: CONTAINERD !== '',
    isCold: COLD !== '',
  };
}

/** As `tc` writes rates: 100mbit, 1gbit. */
function bitsPerSecond(text: string): number {
  const match = /^(\d+)(k|m|g)bit$/.exec(text);
  const unit = { k: 1e3, m: 1e6, g: 1e9 }[match?.[2] ?? ''];
  if (match === null || unit === undefined) throw new Error(`Cannot read rate "${text}": 100mbit is wanted`);
  return Number(match[1]) * unit;
}

interface Site {
  readonly setting: Setting;
  readonly network: Network;
  readonly gate: RegistryGate;
  readonly memory: UsedMemory;
}

async function pullOnAll({ setting, network, gate, memory }: Site): Promise<Pulls> {
  await using stack = new AsyncDisposableStack();
  const root = stack.use(makeTemporaryRoot('swarm', '/dev/shm'));
  const configPath = trustPlainHttp(root.path, gate.host, gate.url);
  const nodes: BenchNode[] = [];
  for (const node of network.nodes) {
    const options = {
      enter: node.enter,
      listen: `${node.address}:${PEER_PORT}`,
      settings: settingsOf(node, network),
    };
    nodes.push(
      stack.use(await startNode(setting, { name: node.name, root: root.path, configPath, ...options })),
    );
  }
  const reference = `${gate.host}/bench/app:v1`;
  if (!setting.isCold) await pullOnEach(nodes, `${gate.host}/bench/warm-up:v1`);
  memory.refill();
  gate.reset();
  const cpuSeconds = (): number => nodes.reduce((sum, node) => sum + node.cpuSeconds(), 0);
  const before = cpuSeconds();
  const ends = await Promise.all(nodes.map((node) => timedPull(node, reference)));
  return { ends, cpuSeconds: cpuSeconds() - before };
}

/** What one node alone takes to pull the image, with nothing in its way: the simulator is told what this machine can do. */
async function cpuSecondsAlone(setting: Setting, registry: Registry, memory: UsedMemory): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const root = stack.use(makeTemporaryRoot('swarm', '/dev/shm'));
  const configPath = trustPlainHttp(root.path, registry.host, registry.url);
  const node = stack.use(await startNode(setting, { name: 'alone', root: root.path, configPath }));
  if (!setting.isCold) await node.pull(`${registry.host}/bench/warm-up:v1`);
  memory.refill();
  const before = node.cpuSeconds();
  await node.pull(`${registry.host}/bench/app:v1`);
  return node.cpuSeconds() - before;
}

/** Beyond loopback, plain http is for registries of which that is said. */
function trustPlainHttp(root: string, registry: string, server: string): string {
  const configPath = join(root, 'certs.d');
  writeHostsToml({ configPath, registry, server, hosts: [] });
  return configPath;
}

interface NodeOptions extends Pick<AgentOptions, 'name' | 'enter' | 'listen' | 'settings'> {
  readonly root: string;
  readonly configPath: string;
}

async function startNode(
  setting: Setting,
  { root, configPath, ...options }: NodeOptions,
): Promise<BenchNode> {
  await using stack = new AsyncDisposableStack();
  const directory = join(root, options.name);
  const containerd = setting.withContainerd
    ? stack.use(await startContainerd({ root: join(directory, 'containerd'), configPath }))
    : undefined;
  const agent = stack.use(
    await startAgent({
      ...options,
      directory,
      ...(containerd && { containerd: containerd.socket }),
      containerdConfigPath: configPath,
    }),
  );
  const pids = [agent.pid, ...(containerd === undefined ? [] : [containerd.pid()])];
  const running = stack.move();
  return {
    agent,
    pull: containerd === undefined ? layoutPull(agent) : criPull(agent),
    cpuSeconds: () => pids.reduce((sum, pid) => sum + cpuSecondsOfTree(pid), 0),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

async function pullOnEach(nodes: readonly BenchNode[], reference: string): Promise<void> {
  await Promise.all(nodes.map((node) => node.pull(reference)));
}

function settingsOf(node: NetworkNode, network: Network) {
  const others = network.nodes.filter((each) => each !== node);
  return {
    node: { address: node.address },
    peers: {
      static: others.map((each) => `${each.address}:${PEER_PORT}`),
      listen: `${node.address}:${PEER_PORT}`,
      insecure: true,
    },
  };
}

function layoutPull(agent: Agent): BenchNode['pull'] {
  return async (reference) => void (await pullToEnd(agent.pull(reference)));
}

function criPull(agent: Agent): BenchNode['pull'] {
  const options = { endpoint: agent.criSocket, timeoutMs: PULL_TIMEOUT_MS };
  return async (reference) => void (await pull(options, reference));
}

async function timedPull(node: BenchNode, reference: string): Promise<NodeEnd> {
  const before = await receivedBytes(node);
  const startedMs = performance.now();
  const secondsNow = (): number => (performance.now() - startedMs) / 1000;
  const isOver = new AbortController();
  const firstByte = firstByteAfter(node, before, isOver.signal).then(secondsNow);
  await node.pull(reference);
  const seconds = secondsNow();
  isOver.abort();
  return { seconds, firstByteSeconds: await firstByte, receivedBytes: (await receivedBytes(node)) - before };
}

/** Looked for no longer than needed: all that the nodes do beside, they do on the same processors. */
async function firstByteAfter(node: BenchNode, beforeBytes: number, signal: AbortSignal): Promise<void> {
  while ((await receivedBytes(node)) === beforeBytes && !signal.aborted) await sleep(POLL_MS);
}

async function receivedBytes({ agent }: BenchNode): Promise<number> {
  const { originBytes = 0, peerBytes = 0 } = (await agent.status()).totals;
  return originBytes + peerBytes;
}

interface Outcome extends Pulls {
  readonly setting: Setting;
  readonly image: BuiltImage;
  readonly originBytes: number;
  readonly aloneCpuSeconds: number;
}

function report({ setting, image, originBytes, aloneCpuSeconds, ends, cpuSeconds }: Outcome): void {
  const imageBytes = image.layerBytes;
  const seconds = ends.map((end) => end.seconds);
  const p95Seconds = percentile(seconds, 0.95);
  const bound = boundSeconds(setting, imageBytes);
  const simulatedP95Seconds = predictP95Seconds({ ...setting, image, aloneCpuSeconds });
  const received = ends.reduce((sum, end) => sum + end.receivedBytes, 0);
  console.log(
    JSON.stringify({
      nodes: setting.nodes,
      linkBitsPerSecond: setting.linkBitsPerSecond,
      originBitsPerSecond: setting.originBitsPerSecond,
      agents: setting.isCold ? 'just started' : 'have pulled before',
      store: setting.withContainerd ? 'containerd' : 'layout',
      p50Seconds: percentile(seconds, 0.5),
      p95Seconds,
      maxSeconds: Math.max(...seconds),
      boundSeconds: bound,
      p95OverBound: p95Seconds / bound,
      originBytes,
      imageBytes,
      originOverImage: originBytes / imageBytes,
      receivedOverNeeded: received / (imageBytes * setting.nodes),
      firstByteSeconds: Math.max(...ends.map((end) => end.firstByteSeconds)),
      // All nodes share this machine's processors, which real ones do not.
      cpuSecondsPerNode: cpuSeconds / setting.nodes,
      cpuBoundSeconds: cpuSeconds / availableParallelism(),
      aloneCpuSeconds,
      simulatedP95Seconds,
      measuredOverSimulated: p95Seconds / simulatedP95Seconds,
    }),
  );
}

/** No system is faster: the origin sends each byte once, a node's link takes the image once, all uplinks send it to all nodes. */
function boundSeconds(
  { nodes, linkBitsPerSecond, originBitsPerSecond }: Setting,
  imageBytes: number,
): number {
  const [link, origin] = [linkBitsPerSecond / 8, originBitsPerSecond / 8];
  return Math.max(imageBytes / origin, imageBytes / link, (nodes * imageBytes) / (origin + nodes * link));
}

await main();
