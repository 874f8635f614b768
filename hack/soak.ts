import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { startAgentBehind, startFront } from '../test/support/front.ts';
import { buildSampleImage } from '../test/support/images/samples.ts';
import { eventually, startOriginSite } from '../test/support/pull-site.ts';
import { containerdSkipReason } from '../test/support/real/components.ts';
import { startContainerd } from '../test/support/real/containerd.ts';
import { pull, runCrictl } from '../test/support/real/crictl.ts';
import { containerdState, testedVersion } from '../test/support/real/import-site.ts';
import { peakRssBytes, rssBytes } from './bench/process-usage.ts';

/**
 * `make soak`: pulls and removes images through front and agent into a real containerd, round after round, and tells how
 * memory, open files and threads develop. The last line is one JSON object.
 */
const MB = 1_000_000;
const ROUNDS_DEFAULT = 50;
const ROUNDS_PER_SAMPLE = 10;
/** The agent gives memory back 15 s after the last pull, and V8 returns its pages some seconds later. */
const QUIET_MS = 30_000;
/** Two images take turns, so that neither finds what the round before left. */
const IMAGES = [
  { name: 'one', layerSizesBytes: [20 * MB, 15 * MB, 5 * MB] },
  { name: 'two', layerSizesBytes: [30 * MB, 10 * MB] },
] as const;

interface Sample {
  readonly round: number;
  readonly agentRssBytes: number;
  readonly agentPeakRssBytes: number;
  readonly agentOpenFiles: number;
  readonly agentThreads: number;
  readonly frontRssBytes: number;
  readonly cacheUsedBytes: number;
}

async function main(): Promise<void> {
  const skip = containerdSkipReason(testedVersion, 'crictl-go');
  if (skip !== null) return console.error(`SKIP: ${skip}`);
  const rounds = Number(process.env.ROUNDS || ROUNDS_DEFAULT);
  await using node = await startNode();
  const startedMs = performance.now();
  const samples = [await node.sample(0)];
  for (let round = 1; round <= rounds; round += 1) {
    await node.pullAndRemove(round);
    if (round % ROUNDS_PER_SAMPLE !== 0 && round !== rounds) continue;
    const sample = await node.sample(round);
    samples.push(sample);
    console.error(describe(sample));
  }
  const seconds = Math.round((performance.now() - startedMs) / 100) / 10;
  await sleep(QUIET_MS);
  const quiet = await node.sample(rounds);
  console.error(`quiet: ${describe(quiet)}`);
  const left = await node.left();
  console.log(
    JSON.stringify({ case: 'soak', containerd: testedVersion, rounds, seconds, ...left, samples, quiet }),
  );
}

async function startNode() {
  await using stack = new AsyncDisposableStack();
  const origin = stack.use(await startOriginSite());
  const references: string[] = [];
  for (const { name, layerSizesBytes } of IMAGES) {
    using image = await buildSampleImage({ layerSizesBytes, seed: name, compression: ['gzip', 'zstd'] });
    references.push((await origin.push(image, name)).reference);
  }
  const containerd = stack.use(await startContainerd({ version: testedVersion }));
  const front = stack.use(await startFront({ containerd: containerd.socket }));
  const settings = { policy: { mode: 'all' } };
  const agent = stack.use(await startAgentBehind(front, { containerd: containerd.socket, settings }));
  const cri = { endpoint: front.socket };
  const state = () => containerdState(containerd);
  const owned = stack.move();
  return {
    pullAndRemove: async (round: number): Promise<void> => {
      const reference = references[round % references.length] ?? '';
      await pull(cri, reference);
      await runCrictl(cri, 'rmi', reference);
      await eventually(state, ({ blobs }) => blobs.length === 0);
    },
    sample: async (round: number): Promise<Sample> => ({
      round,
      agentRssBytes: rssBytes(agent.pid),
      agentPeakRssBytes: peakRssBytes(agent.pid),
      agentOpenFiles: readdirSync(`/proc/${agent.pid}/fd`).length,
      agentThreads: readdirSync(`/proc/${agent.pid}/task`).length,
      frontRssBytes: rssBytes(front.pid),
      cacheUsedBytes: (await agent.status()).cacheUsedBytes,
    }),
    /** Of each kind how many things are in containerd at the end; there should be none. */
    left: async () => {
      const entries = Object.entries(await state()).map(([kind, lines]) => [kind, lines.length]);
      return { left: Object.fromEntries(entries) as Record<string, number> };
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function describe(sample: Sample): string {
  const agent = `agent ${megabytes(sample.agentRssBytes)} MB (peak ${megabytes(sample.agentPeakRssBytes)} MB)`;
  const rest = `${sample.agentOpenFiles} files, ${sample.agentThreads} threads`;
  return `round ${sample.round}: ${agent}, ${rest}; front ${megabytes(sample.frontRssBytes)} MB`;
}

function megabytes(bytes: number): string {
  return (bytes / MB).toFixed(0);
}

await main();
