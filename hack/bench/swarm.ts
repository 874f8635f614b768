import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Agent, pullToEnd, startAgent } from '../../test/support/agent.ts';
import { pushImage } from '../../test/support/images/push-image.ts';
import { buildSampleImage } from '../../test/support/images/samples.ts';
import { componentsAvailable, containerdSkipReason } from '../../test/support/real/components.ts';
import { startContainerd } from '../../test/support/real/containerd.ts';
import { pull } from '../../test/support/real/crictl.ts';
import { writeHostsToml } from '../../test/support/real/hosts-toml.ts';
import { startRegistry } from '../../test/support/real/registry.ts';
import { type RegistryGate, startRegistryGate } from '../../test/support/real/registry-gate.ts';
import { makeTemporaryRoot } from '../../test/support/real/temporary-root.ts';
import { createNetwork, type Network, type NetworkNode, networkSkipReason } from '../cluster/network.ts';
import { sampleImage } from '../demo/sample-image.ts';
import { percentile } from './median.ts';
import { cpuSecondsOfTree } from './process-usage.ts';

const IMAGE = resolve(import.meta.dirname, '../../.cache/demo/image');
const SIMULATOR = resolve(import.meta.dirname, '../../test/sim/main.ts');
const PEER_PORT = 65002;
/** Ethernet, IP and TCP take this part of a link; what is left carries bytes of layers. */
const HEADER_PART = 0.06;

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

interface BenchNode {
  readonly agent: Agent;
  readonly pull: (reference: string) => Promise<void>;
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
  const pulls = await pullOnAll(setting, network, gate);
  const originBytes = gate.count({ class: 'blob' }).bytes;
  report({ setting, imageBytes: image.layerBytes, originBytes, ...pulls });
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

async function pullOnAll(setting: Setting, network: Network, gate: RegistryGate): Promise<Pulls> {
  await using stack = new AsyncDisposableStack();
  const root = stack.use(makeTemporaryRoot('swarm', '/dev/shm'));
  // Beyond loopback, plain http is for registries of which that is said.
  const configPath = join(root.path, 'certs.d');
  writeHostsToml({ configPath, registry: gate.host, server: gate.url, hosts: [] });
  const pids: number[] = [];
  const start = async (node: NetworkNode): Promise<BenchNode> => {
    const directory = join(root.path, node.name);
    const containerd = setting.withContainerd
      ? stack.use(await startContainerd({ root: join(directory, 'containerd'), configPath }))
      : undefined;
    const agent = stack.use(
      await startAgent({
        name: node.name,
        directory,
        ...(containerd && { containerd: containerd.socket }),
        containerdConfigPath: configPath,
        enter: node.enter,
        listen: `${node.address}:${PEER_PORT}`,
        settings: settingsOf(node, network),
      }),
    );
    pids.push(agent.pid, ...(containerd === undefined ? [] : [containerd.pid()]));
    return containerd === undefined ? layoutNode(agent) : criNode(agent);
  };
  const nodes: BenchNode[] = [];
  for (const node of network.nodes) nodes.push(await start(node));
  const reference = `${gate.host}/bench/app:v1`;
  if (!setting.isCold) await pullOnEach(nodes, `${gate.host}/bench/warm-up:v1`);
  gate.reset();
  const cpuSeconds = (): number => pids.reduce((sum, pid) => sum + cpuSecondsOfTree(pid), 0);
  const before = cpuSeconds();
  const ends = await Promise.all(nodes.map((node) => timedPull(node, reference)));
  return { ends, cpuSeconds: cpuSeconds() - before };
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

function layoutNode(agent: Agent): BenchNode {
  return { agent, pull: async (reference) => void (await pullToEnd(agent.pull(reference))) };
}

function criNode(agent: Agent): BenchNode {
  const options = { endpoint: agent.criSocket, timeoutMs: PULL_TIMEOUT_MS };
  return { agent, pull: async (reference) => void (await pull(options, reference)) };
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
  readonly imageBytes: number;
  readonly originBytes: number;
}

function report({ setting, imageBytes, originBytes, ends, cpuSeconds }: Outcome): void {
  const seconds = ends.map((end) => end.seconds);
  const p95Seconds = percentile(seconds, 0.95);
  const bound = boundSeconds(setting, imageBytes);
  const simulatedP95Seconds = simulate(setting, imageBytes);
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

/** The simulator moves bytes of layers: it is given links as wide as what headers leave. */
function simulate({ nodes, linkBitsPerSecond, originBitsPerSecond }: Setting, imageBytes: number): number {
  const megabytes = (bits: number, part: number): string => String((bits * part) / 8e6);
  const { stdout, status } = spawnSync(
    process.execPath,
    [
      SIMULATOR,
      `--nodes=${nodes}`,
      `--size-mb=${imageBytes / 1e6}`,
      '--blobs=4',
      `--link-mb=${megabytes(linkBitsPerSecond, 1 - HEADER_PART)}`,
      `--origin-mb=${megabytes(originBitsPerSecond, 1)}`,
      '--spread-ms=0',
      '--json',
    ],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
  );
  if (status !== 0) throw new Error(`Cannot simulate: exit code ${status}`);
  const line = stdout.trim().split('\n').at(-1) ?? '{}';
  return (JSON.parse(line) as { p95Seconds: number }).p95Seconds;
}

await main();
