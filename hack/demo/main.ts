import { mkdirSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { formatBytes, formatSeconds } from '../../shim/cli/format.ts';
import { addCounts, NO_BYTES } from '../../shim/pull/progress.ts';
import { pushImage } from '../../test/support/images/push-image.ts';
import { buildSandboxImage } from '../../test/support/images/samples.ts';
import { componentsAvailable } from '../../test/support/real/components.ts';
import { type Registry, startRegistry } from '../../test/support/real/registry.ts';
import { type RegistryGate, startRegistryGate } from '../../test/support/real/registry-gate.ts';
import { containerdNodes, type WithNodes, withLayoutNodes } from './nodes.ts';
import { drawPicture } from './picture.ts';
import { type DemoNode, type NodeRun, runSwarm } from './run-swarm.ts';
import { sampleImage } from './sample-image.ts';
import { Screen } from './screen.ts';

const CACHE = resolve(import.meta.dirname, '../../.cache/demo');
const NODES = 4;
/** What the registry's uplink carries, bytes a second: 160 Mbit/s. */
const UPLINK_BYTES_PER_SECOND = 20_000_000;

/** `make demo`: four nodes pull one image at once, and how that compares with pulls without peers. */
async function main(stop: AbortSignal): Promise<void> {
  const screen = new Screen();
  const withContainerd = process.env.CONTAINERD !== undefined && process.env.CONTAINERD !== '';
  const skip = componentsAvailable('registry') ?? (withContainerd ? containerdSkip() : null);
  if (skip !== null) return screen.step(`SKIP: ${skip}`);

  screen.step('1. an image of files of this machine');
  const image = await sampleImage({ directory: `${CACHE}/image`, runnable: withContainerd });
  stop.throwIfAborted();
  screen.step(`   ${image.layers.length} layers, ${formatBytes(image.layerBytes)}`);

  screen.step(`2. a registry whose uplink carries ${formatBytes(UPLINK_BYTES_PER_SECOND)}/s`);
  await using registry = await startRegistry();
  await pushImage(image, { host: registry.host, repository: 'demo/app', tag: 'v1' });
  await using gate = await startRegistryGate({
    upstream: registry.url,
    rateBytesPerSecond: UPLINK_BYTES_PER_SECOND,
  });
  stop.throwIfAborted();
  const withNodes = withContainerd ? containerdNodes(await pushSandbox(registry)) : withLayoutNodes;
  const run = { reference: `${gate.host}/demo/app:v1`, imageBytes: image.layerBytes };
  summarise(screen, { ...run, ...(await pullBothWays({ withNodes, run, gate, screen, stop })) });
}

interface Scene {
  readonly withNodes: WithNodes;
  readonly run: { readonly reference: string; readonly imageBytes: number };
  readonly gate: RegistryGate;
  readonly screen: Screen;
  readonly stop: AbortSignal;
}

/** One node alone, then all as peers, with fresh nodes. */
async function pullBothWays({
  withNodes,
  run,
  gate,
  screen,
  stop,
}: Scene): Promise<Omit<Outcome, 'imageBytes'>> {
  const names = Array.from({ length: NODES }, (_, index) => `node-${index + 1}`);
  screen.step('3. one node alone');
  const [alone] = await withNodes(names.slice(0, 1), false, (nodes) => runSwarm(nodes, run, screen, stop));
  screen.step(`4. ${NODES} nodes at once, as peers`);
  gate.reset();
  const together = await withNodes(names, true, async (nodes) => {
    const runs = await runSwarm(nodes, run, screen, stop);
    for (const node of nodes) await runOn(node, run.reference, screen);
    return runs;
  });
  return {
    together,
    originBytes: gate.count({ class: 'blob' }).bytes,
    aloneSeconds: alone?.seconds ?? Number.NaN,
  };
}

/** Shows that the image is one that containers start from. */
async function runOn(node: DemoNode, reference: string, screen: Screen): Promise<void> {
  const output = await node.run?.(reference, ['/bin/sh', '-c', 'find / -xdev -type f | busybox wc -l']);
  if (output !== undefined) screen.step(`   ${node.name} runs a container: ${output.trim()} files in it`);
}

async function pushSandbox(registry: Registry): Promise<string> {
  using image = await buildSandboxImage();
  return (await pushImage(image, { host: registry.host, repository: 'demo/pause', tag: 'v1' })).reference;
}

interface Outcome {
  readonly imageBytes: number;
  readonly originBytes: number;
  readonly together: readonly NodeRun[];
  readonly aloneSeconds: number;
}

function summarise(screen: Screen, outcome: Outcome): void {
  const { imageBytes, originBytes, together, aloneSeconds } = outcome;
  // What the uplink allows, not a measurement: no system without peers can be faster.
  const withoutPeersSeconds = (together.length * imageBytes) / UPLINK_BYTES_PER_SECOND;
  const counts = together.map((node) => node.counts).reduce(addCounts, NO_BYTES);
  const picture = `${CACHE}/demo.svg`;
  mkdirSync(CACHE, { recursive: true });
  const title = `One image of ${formatBytes(imageBytes)} on ${together.length} nodes: the registry sent ${(originBytes / imageBytes).toFixed(2)} × of it`;
  writeFileSync(
    picture,
    drawPicture({
      title,
      imageBytes,
      originBytes,
      nodes: together,
      aloneSeconds,
      withoutPeersSeconds,
    }),
  );
  const slowest = Math.max(...together.map((node) => node.seconds));
  for (const node of together)
    screen.step(
      `   ${node.name}  ${formatSeconds(node.seconds).padStart(7)}   registry ${formatBytes(node.counts.originBytes).padStart(8)}   peers ${formatBytes(node.counts.peerBytes).padStart(8)}`,
    );
  screen.step('');
  screen.step(
    `   all ${together.length} nodes as peers    ${formatSeconds(slowest)}, the registry sent ${formatBytes(originBytes)} = ${(originBytes / imageBytes).toFixed(2)} × the image`,
  );
  screen.step(
    `   without peers          ${formatSeconds(withoutPeersSeconds)} at least: ${together.length} × the image through the same uplink`,
  );
  screen.step(`   one node alone         ${formatSeconds(aloneSeconds)}`);
  screen.step(`   picture: ${picture}`);
  if (process.env.JSON !== '1') return;
  const nodes = together.map(({ name, seconds }) => ({ name, seconds }));
  const { peerBytes, cacheBytes } = counts;
  console.log(
    JSON.stringify({
      imageBytes,
      originBytes,
      peerBytes,
      cacheBytes,
      nodes,
      aloneSeconds,
      withoutPeersSeconds,
    }),
  );
}

function containerdSkip(): string | null {
  const root =
    process.getuid?.() === 0
      ? null
      : 'CONTAINERD=1 needs root (mounts and containers): sudo make demo CONTAINERD=1';
  return root ?? componentsAvailable('containerd-2.1', 'runc', 'busybox', 'crictl-go');
}

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => stop.abort(new Error(`ended by ${signal}, everything is cleaned up`)));

try {
  await main(stop.signal);
} catch (error) {
  const interrupted = stop.signal.aborted;
  process.stderr.write(`demo: ${interrupted ? stop.signal.reason.message : (error as Error).stack}\n`);
  process.exit(interrupted ? 130 : 1);
}
