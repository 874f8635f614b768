import { join } from 'node:path';
import { type Agent, startAgent } from '../../test/support/agent.ts';
import { pushImage } from '../../test/support/images/push-image.ts';
import { buildSandboxImage } from '../../test/support/images/samples.ts';
import { containerdSkipReason } from '../../test/support/real/components.ts';
import { type Containerd, startContainerd } from '../../test/support/real/containerd.ts';
import type { ContainerdVersion } from '../../test/support/real/containerd-config.ts';
import { pull } from '../../test/support/real/crictl.ts';
import { loopFileSystem } from '../../test/support/real/file-system.ts';
import { startRegistry } from '../../test/support/real/registry.ts';
import { median } from './median.ts';
import { cpuSecondsOfTree, peakRssBytes } from './process-usage.ts';
import { type PullCase, pullCases } from './pull-cases.ts';

/** Room for content, snapshots and cache of the largest case; sparse, so only what is written costs. */
const FILE_SYSTEM_BYTES = 16 * 2 ** 30;
const PULL_TIMEOUT_MS = 300_000;

interface Figures {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly rssBytes: number;
}

type FileSystem = 'ext4' | 'tmpfs';

/**
 * `make bench-pull`: the same image through containerd's own CRI pull and through Shoal, alternating, each run cold on a
 * fresh file system. One JSON line a case and file system.
 */
async function main(): Promise<void> {
  const version = (process.env.CONTAINERD ?? '2.1') as ContainerdVersion;
  const skip = containerdSkipReason(version, 'crictl-go');
  if (skip !== null) return console.error(`SKIP: ${skip}`);
  const runs = Number(process.env.RUNS ?? 5);
  const fileSystems = (process.env.FILESYSTEM ?? 'ext4').split(',') as FileSystem[];
  for (const each of pullCases(process.env.CASE))
    for (const fileSystem of fileSystems) await runCase(each, version, fileSystem, runs);
}

async function runCase(
  each: PullCase,
  version: ContainerdVersion,
  fileSystem: FileSystem,
  runs: number,
): Promise<void> {
  await using registry = await startRegistry();
  const image = await each.build();
  await pushImage(image, { host: registry.host, repository: 'bench/image', tag: 'v1' });
  using sandbox = await buildSandboxImage();
  await pushImage(sandbox, { host: registry.host, repository: 'bench/pause', tag: 'v1' });
  const reference = `${registry.host}/bench/image:v1`;
  const rival: Figures[] = [];
  const shoal: Figures[] = [];
  for (let run = 0; run < runs; run += 1) {
    rival.push(await measure(version, fileSystem, reference, false));
    shoal.push(await measure(version, fileSystem, reference, true));
    const [theirs, ours] = [rival.at(-1)?.seconds ?? 0, shoal.at(-1)?.seconds ?? 0];
    console.error(
      `${each.name} ${fileSystem} run ${run + 1}: containerd ${theirs.toFixed(1)} s, shoal ${ours.toFixed(1)} s`,
    );
  }
  const of = (figures: readonly Figures[], key: keyof Figures): number =>
    median(figures.map((figure) => figure[key]));
  const line = {
    case: each.name,
    filesystem: fileSystem,
    rival: `containerd ${version}`,
    runs,
    imageBytes: image.layerBytes,
    rivalSeconds: of(rival, 'seconds'),
    shoalSeconds: of(shoal, 'seconds'),
    ratio: of(rival, 'seconds') / of(shoal, 'seconds'),
    rivalCpuSeconds: of(rival, 'cpuSeconds'),
    shoalCpuSeconds: of(shoal, 'cpuSeconds'),
    rssBytes: of(shoal, 'rssBytes'),
  };
  console.log(JSON.stringify(line));
}

async function measure(
  version: ContainerdVersion,
  fileSystem: FileSystem,
  reference: string,
  withShoal: boolean,
): Promise<Figures> {
  await using disk = await loopFileSystem(FILE_SYSTEM_BYTES, fileSystem);
  await using containerd = await startContainerd({ version, root: join(disk.path, 'containerd') });
  if (!withShoal) return await timedPull(containerd, undefined, reference);
  await using agent = await startAgent({
    name: 'bench',
    containerd: containerd.socket,
    directory: join(disk.path, 'shoal'),
  });
  return await timedPull(containerd, agent, reference);
}

async function timedPull(
  containerd: Containerd,
  agent: Agent | undefined,
  reference: string,
): Promise<Figures> {
  const pids = [containerd.pid(), ...(agent === undefined ? [] : [agent.pid])];
  const cpu = (): number => pids.reduce((sum, pid) => sum + cpuSecondsOfTree(pid), 0);
  const [startedMs, startedCpu] = [performance.now(), cpu()];
  try {
    await pull({ endpoint: agent?.criSocket ?? containerd.socket, timeoutMs: PULL_TIMEOUT_MS }, reference);
  } catch (error) {
    console.error(agent?.log() ?? containerd.log());
    throw error;
  }
  return {
    seconds: (performance.now() - startedMs) / 1000,
    cpuSeconds: cpu() - startedCpu,
    rssBytes: agent === undefined ? 0 : peakRssBytes(agent.pid),
  };
}

await main();
