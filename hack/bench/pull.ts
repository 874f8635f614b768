import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { syncfs } from '../../shim/base/posix.ts';
import { type Agent, startAgent } from '../../test/support/agent.ts';
import type { BuiltImage } from '../../test/support/images/build-image.ts';
import { pushImage } from '../../test/support/images/push-image.ts';
import { buildSandboxImage } from '../../test/support/images/samples.ts';
import { containerdSkipReason } from '../../test/support/real/components.ts';
import { type Containerd, startContainerd } from '../../test/support/real/containerd.ts';
import type { ContainerdVersion } from '../../test/support/real/containerd-config.ts';
import { pull, runCrictl } from '../../test/support/real/crictl.ts';
import { type FileSystemKind, loopFileSystem } from '../../test/support/real/file-system.ts';
import { startRegistry } from '../../test/support/real/registry.ts';
import { median, percentile } from './median.ts';
import { type MemoryLimit, memoryLimit } from './memory-limit.ts';
import { cpuSecondsOfTree, peakRssBytes } from './process-usage.ts';
import { type PullCase, pullCases } from './pull-cases.ts';
import { type PhysicalLimits, physicalLimits } from './pull-limits.ts';
import { plainRival, type Rival, tunedRival } from './pull-rivals.ts';
import { type UsedMemory, useMemory } from './used-memory.ts';

/** Room for content, snapshots and cache of the largest case; sparse, so only what is written costs. */
const FILE_SYSTEM_BYTES = 16 * 2 ** 30;
const PULL_TIMEOUT_MS = 300_000;
/** Of the agent, in MiB, page cache included; none unless asked for. */
const MEMORY_LIMIT_MB = process.env.MEMORY_MB ? Number(process.env.MEMORY_MB) : undefined;
/** Of the small image; enough for a 95th percentile. */
const SMALL_PULLS = 50;

interface Figures {
  readonly seconds: number;
  /** Until a syncfs after the pull has made it durable. */
  readonly durableSeconds: number;
  readonly cpuSeconds: number;
  readonly rssBytes: number;
  /** Of the agent's cgroup, where it has one: page cache included. */
  readonly memoryPeakBytes?: number;
  readonly timesAtMemoryLimit?: number;
}

interface Bench {
  readonly rival: Rival;
  readonly fileSystem: FileSystemKind;
  readonly reference: string;
  readonly image: BuiltImage;
  readonly memory: UsedMemory;
}

/**
 * `make bench-pull`: the same image through containerd's own CRI pull and through Shoal, alternating, each run cold on a
 * fresh file system, in memory that was in use. One JSON line a case, rival and file system.
 */
async function main(): Promise<void> {
  const rivals = rivalsOf(process.env.RIVAL ?? 'plain');
  const skips = rivals.map((rival) => containerdSkipReason(rival.containerd.version, 'crictl-go'));
  const skip = skips.find((each) => each !== null);
  if (skip) return console.error(`SKIP: ${skip}`);
  const fileSystems = (process.env.FILESYSTEM ?? 'ext4').split(',') as FileSystemKind[];
  for (const each of pullCases(process.env.CASE)) await runCase(each, rivals, fileSystems);
}

function rivalsOf(names: string): Rival[] {
  return names.split(',').map((name) => {
    if (name === 'tuned') return tunedRival();
    if (name === 'plain') return plainRival((process.env.CONTAINERD ?? '2.1') as ContainerdVersion);
    throw new Error(`Cannot compare with RIVAL="${name}": plain or tuned is wanted`);
  });
}

async function runCase(
  each: PullCase,
  rivals: readonly Rival[],
  fileSystems: readonly FileSystemKind[],
): Promise<void> {
  using memory = useMemory();
  await using registry = await startRegistry();
  const image = await each.build();
  await pushImage(image, { host: registry.host, repository: 'bench/image', tag: 'v1' });
  using sandbox = await buildSandboxImage();
  await pushImage(sandbox, { host: registry.host, repository: 'bench/pause', tag: 'v1' });
  const reference = `${registry.host}/bench/image:v1`;
  for (const fileSystem of fileSystems) {
    for (const rival of rivals) {
      const bench = { rival, fileSystem, reference, image, memory };
      const figures = each.isSmall ? await compareSmall(bench) : await compare(each.name, bench);
      const head = {
        case: each.name,
        filesystem: fileSystem,
        rival: rival.name,
        imageBytes: image.layerBytes,
      };
      console.log(JSON.stringify({ ...head, ...figures }));
    }
  }
}

async function compare(name: string, bench: Bench) {
  const runs = Number(process.env.RUNS ?? 5);
  const rival: Figures[] = [];
  const shoal: Figures[] = [];
  const limits: PhysicalLimits[] = [];
  for (let run = 0; run < runs; run += 1) {
    bench.memory.refill();
    const theirs = await measure(bench, false);
    bench.memory.refill();
    const ours = await measure(bench, true);
    bench.memory.refill();
    const limit = await physicalLimits(bench.image, bench.fileSystem, FILE_SYSTEM_BYTES);
    rival.push(theirs);
    shoal.push(ours);
    limits.push(limit);
    console.error(
      `${name} ${bench.fileSystem} run ${run + 1}: ${bench.rival.name} ${theirs.seconds.toFixed(1)} s, shoal ${ours.seconds.toFixed(1)} s, limit ${limit.untarSeconds.toFixed(1)} s`,
    );
  }
  const of = (figures: readonly Figures[], key: keyof Figures): number =>
    median(figures.map((figure) => figure[key] ?? 0));
  return {
    runs,
    rivalSeconds: of(rival, 'seconds'),
    shoalSeconds: of(shoal, 'seconds'),
    ratio: of(rival, 'seconds') / of(shoal, 'seconds'),
    rivalDurableSeconds: of(rival, 'durableSeconds'),
    shoalDurableSeconds: of(shoal, 'durableSeconds'),
    durableRatio: of(rival, 'durableSeconds') / of(shoal, 'durableSeconds'),
    rivalCpuSeconds: of(rival, 'cpuSeconds'),
    shoalCpuSeconds: of(shoal, 'cpuSeconds'),
    cpuRatio: of(shoal, 'cpuSeconds') / of(rival, 'cpuSeconds'),
    rssBytes: of(shoal, 'rssBytes'),
    ...(shoal[0]?.memoryPeakBytes !== undefined && {
      memoryLimitBytes: (MEMORY_LIMIT_MB ?? 0) * 2 ** 20,
      memoryPeakBytes: of(shoal, 'memoryPeakBytes'),
      timesAtMemoryLimit: of(shoal, 'timesAtMemoryLimit'),
    }),
    ...limitsOf(limits, of(shoal, 'seconds')),
  };
}

function limitsOf(limits: readonly PhysicalLimits[], shoalSeconds: number) {
  const untarSeconds = median(limits.map((limit) => limit.untarSeconds));
  const hashSeconds = median(limits.map((limit) => limit.hashSeconds));
  return {
    inflater: limits[0]?.inflater,
    inflateSeconds: median(limits.map((limit) => limit.inflateSeconds)),
    untarSeconds,
    hashSeconds,
    overLimit: shoalSeconds / untarSeconds,
    overLimitWithHashes: shoalSeconds / (untarSeconds + hashSeconds),
  };
}

async function measure({ rival, fileSystem, reference }: Bench, withShoal: boolean): Promise<Figures> {
  await using disk = await loopFileSystem(FILE_SYSTEM_BYTES, fileSystem);
  await using containerd = await startContainerd({
    ...rival.containerd,
    root: join(disk.path, 'containerd'),
  });
  if (!withShoal) return await timedPull({ containerd, disk: disk.path, reference });
  using limit = MEMORY_LIMIT_MB === undefined ? undefined : memoryLimit(MEMORY_LIMIT_MB * 2 ** 20);
  await using agent = await startBenchAgent(rival, containerd, { disk: disk.path, limit });
  const figures = await timedPull({ containerd, agent, disk: disk.path, reference });
  if (limit === undefined) return figures;
  if (limit.kills() > 0)
    throw new Error(`Cannot pull within ${MEMORY_LIMIT_MB} MiB: the kernel killed the agent`);
  return { ...figures, memoryPeakBytes: limit.peakBytes(), timesAtMemoryLimit: limit.timesAtLimit() };
}

/** Both sides stand all the time; the image is removed after each pull. */
async function compareSmall({ rival, fileSystem, reference, memory }: Bench) {
  await using disks = await twoDisks(fileSystem);
  const [theirDisk, ourDisk] = disks.paths;
  await using theirs = await startContainerd({ ...rival.containerd, root: join(theirDisk, 'containerd') });
  await using behind = await startContainerd({ ...rival.containerd, root: join(ourDisk, 'containerd') });
  await using agent = await startBenchAgent(rival, behind, { disk: ourDisk });
  memory.refill();
  const rivalSeconds: number[] = [];
  const shoalSeconds: number[] = [];
  for (let run = 0; run < SMALL_PULLS; run += 1) {
    rivalSeconds.push(await pullAndRemove(theirs.socket, reference));
    shoalSeconds.push(await pullAndRemove(agent.criSocket, reference));
  }
  const [rivalP95, shoalP95] = [percentile(rivalSeconds, 0.95), percentile(shoalSeconds, 0.95)];
  return {
    runs: SMALL_PULLS,
    rivalSeconds: rivalP95,
    shoalSeconds: shoalP95,
    ratio: rivalP95 / shoalP95,
    rivalMedianSeconds: median(rivalSeconds),
    shoalMedianSeconds: median(shoalSeconds),
    rssBytes: peakRssBytes(agent.pid),
  };
}

async function twoDisks(fileSystem: FileSystemKind) {
  await using opened = new AsyncDisposableStack();
  const first = opened.use(await loopFileSystem(FILE_SYSTEM_BYTES, fileSystem));
  const second = opened.use(await loopFileSystem(FILE_SYSTEM_BYTES, fileSystem));
  const owned = opened.move();
  return {
    paths: [first.path, second.path] as const,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function pullAndRemove(endpoint: string, reference: string): Promise<number> {
  const startedMs = performance.now();
  await pull({ endpoint, timeoutMs: PULL_TIMEOUT_MS }, reference);
  const seconds = (performance.now() - startedMs) / 1000;
  await runCrictl({ endpoint }, 'rmi', reference);
  return seconds;
}

function startBenchAgent(
  { agentEnv: env }: Rival,
  containerd: Containerd,
  { disk, limit }: { readonly disk: string; readonly limit?: MemoryLimit | undefined },
): Promise<Agent> {
  const directory = join(disk, 'shoal');
  const enter = limit?.enter ?? [];
  return startAgent({ name: 'bench', containerd: containerd.socket, directory, enter, env });
}

interface TimedPull {
  readonly containerd: Containerd;
  readonly agent?: Agent;
  readonly disk: string;
  readonly reference: string;
}

async function timedPull({ containerd, agent, disk, reference }: TimedPull): Promise<Figures> {
  const pids = [containerd.pid(), ...(agent === undefined ? [] : [agent.pid])];
  const cpu = (): number => pids.reduce((sum, pid) => sum + cpuSecondsOfTree(pid), 0);
  const [startedMs, startedCpu] = [performance.now(), cpu()];
  const secondsSince = (): number => (performance.now() - startedMs) / 1000;
  try {
    await pull({ endpoint: agent?.criSocket ?? containerd.socket, timeoutMs: PULL_TIMEOUT_MS }, reference);
  } catch (error) {
    console.error(agent?.log() ?? containerd.log());
    throw error;
  }
  const seconds = secondsSince();
  const cpuSeconds = cpu() - startedCpu;
  makeDurable(disk);
  const rssBytes = agent === undefined ? 0 : peakRssBytes(agent.pid);
  return { seconds, durableSeconds: secondsSince(), cpuSeconds, rssBytes };
}

function makeDurable(path: string): void {
  const fd = openSync(path, 'r');
  syncfs(fd);
  closeSync(fd);
}

await main();
