import { mkdirSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { formatBytes, formatSeconds } from '../../shim/cli/format.ts';
import { addCounts, NO_BYTES } from '../../shim/pull/progress.ts';
import { pushImage } from '../../test/support/images/push-image.ts';
import { buildSandboxImage } from '../../test/support/images/samples.ts';
import { componentsAvailable } from '../../test/support/real/components.ts';
import { type Registry, startRegistry } from '../../test/support/real/registry.ts';
import { startRegistryGate } from '../../test/support/real/registry-gate.ts';
import { containerdNodes, type WithNodes, withLayoutNodes } from './nodes.ts';
import { drawPicture } from './picture.ts';
import { type DemoNode, type NodeRun, runSwarm } from './run-swarm.ts';
import { sampleImage } from './sample-image.ts';
import { Screen } from './screen.ts';

const CACHE = resolve(import.meta.dirname, '../../.cache/demo');
const NODES = 4;
/** What the registry's uplink carries, bytes a second: 240 Mbit/s. */
const UPLINK_BYTES_PER_SECOND = 30_000_000;

/** `make demo`: four nodes pull one image at once, and how that compares with pulls without peers. */
async function main(): Promise<void> {
  const screen = new Screen();
  const withContainerd = process.env.CONTAINERD === '1';
  const skip = componentsAvailable('registry') ?? (withContainerd ? containerdSkip() : null);
  if (skip !== null) return screen.step(`SKIP: ${skip}`);
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => stop.abort(new Error(`ended by ${signal}`)));

  screen.step('1. an image of files of this machine');
  const image = await sampleImage({ directory: `${CACHE}/image`, runnable: withContainerd });
  screen.step(`   ${image.layers.length} layers, ${formatBytes(image.layerBytes)}`);

  screen.step(`2. a registry whose uplink carries ${formatBytes(UPLINK_BYTES_PER_SECOND)}/s`);
  await using registry = await startRegistry();
  await pushImage(image, { host: registry.host, repository: 'demo/app', tag: 'v1' });
  await using gate = await startRegistryGate({
    upstream: registry.url,
    rateBytesPerSecond: UPLINK_BYTES_PER_SECOND,
  });
  const run = { reference: `${gate.host}/demo/app:v1`, imageBytes: image.layerBytes };
  const withNodes: WithNodes = withContainerd
    ? containerdNodes(await pushSandbox(registry))
    : withLayoutNodes;
  const names = Array.from({ length: NODES }, (_, index) => `node-${index + 1}`);

  screen.step('3. one node alone');
  const [alone] = await withNodes(names.slice(0, 1), false, (nodes) =>
    runSwarm(nodes, run, screen, stop.signal),
  );
  screen.step(`4. ${NODES} nodes at once, without peers`);
  const apart = await withNodes(names, false, (nodes) => runSwarm(nodes, run, screen, stop.signal));
  screen.step(`5. ${NODES} nodes at once, as peers`);
  gate.reset();
  const together = await withNodes(names, true, async (nodes) => {
    const runs = await runSwarm(nodes, run, screen, stop.signal);
    for (const node of nodes) await runOn(node, run.reference, screen);
    return runs;
  });
  summarise(screen, {
    imageBytes: image.layerBytes,
    originBytes: gate.count({ class: 'blob' }).bytes,
    together,
    aloneSeconds: alone?.seconds ?? Number.NaN,
    apartSeconds: Math.max(...apart.map((node) => node.seconds)),
  });
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
  readonly apartSeconds: number;
}

function summarise(screen: Screen, outcome: Outcome): void {
  const { imageBytes, originBytes, together, aloneSeconds, apartSeconds } = outcome;
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
      withoutPeersSeconds: apartSeconds,
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
    `   all ${together.length} without peers     ${formatSeconds(apartSeconds)}, the registry sent ${together.length} × the image`,
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
      withoutPeersSeconds: apartSeconds,
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

await main();
