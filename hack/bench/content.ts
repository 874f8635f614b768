import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '../../shim/base/digest.ts';
import { BlobStore } from '../../shim/containerd/blob-store.ts';
import { ContainerdClient } from '../../shim/containerd/containerd-client.ts';
import { Lease } from '../../shim/containerd/lease.ts';
import { containerdSkipReason } from '../../test/support/real/components.ts';
import { startContainerd } from '../../test/support/real/containerd.ts';
import { type FileSystemKind, loopFileSystem } from '../../test/support/real/file-system.ts';
import { median } from './median.ts';
import { cpuSecondsOfTree } from './process-usage.ts';
import { pullCases } from './pull-cases.ts';

const FILE_SYSTEM_BYTES = 8 * 2 ** 30;
const VERSION = '2.1';
const ROUTES = ['linked', 'sent'] as const;

interface Figures {
  readonly seconds: number;
  /** Of containerd and of this process. */
  readonly cpuSeconds: number;
  readonly storedBytes: number;
}

/**
 * `make bench-content`: what it costs to have an image's layer blobs in containerd's content store beside their trees: linked into its
 * ingest, or sent. Not storing them (`discardUnpackedLayers`) saves all of it. One JSON line a file system and route.
 */
async function main(): Promise<void> {
  const skip = containerdSkipReason(VERSION);
  if (skip) return console.error(`SKIP: ${skip}`);
  for (const kind of (process.env.FILESYSTEM ?? 'ext4,tmpfs').split(',') as FileSystemKind[]) {
    const figures = new Map<string, Figures[]>(ROUTES.map((route) => [route, []]));
    for (let run = 0; run < Number(process.env.RUNS ?? 3); run += 1)
      for (const route of ROUTES) figures.get(route)?.push(await measure(kind, route));
    for (const [route, each] of figures) {
      const of = (key: keyof Figures): number => median(each.map((figure) => figure[key]));
      const line = { filesystem: kind, route, runs: each.length, seconds: of('seconds') };
      console.log(JSON.stringify({ ...line, cpuSeconds: of('cpuSeconds'), storedBytes: of('storedBytes') }));
    }
  }
}

async function measure(kind: FileSystemKind, route: (typeof ROUTES)[number]): Promise<Figures> {
  const [pullCase] = pullCases(process.env.CASE ?? 'machine-4-layers-gzip');
  using image = await pullCase?.build();
  if (image === undefined) throw new Error('Cannot measure without an image');
  await using disk = await loopFileSystem(FILE_SYSTEM_BYTES, kind);
  await using containerd = await startContainerd({ version: VERSION, root: join(disk.path, 'containerd') });
  const client = new ContainerdClient(containerd.socket, 'k8s.io');
  try {
    const signal = new AbortController().signal;
    const contentRoot = join(containerd.root, 'io.containerd.content.v1.content');
    const blobs = new BlobStore(client, route === 'linked' ? contentRoot : undefined);
    const lease = new Lease({ client, name: 'bench', owner: 'bench' });
    const leaseId = await lease.current(Date.now(), signal);
    const files = image.layers.map(({ digest }, index) => {
      const file = join(disk.path, `layer-${index}`);
      copyFileSync(image.blobPath(digest), file);
      return file;
    });
    const cpu = (): number => cpuSecondsOfTree(containerd.pid()) + ownCpuSeconds();
    const usedBytes = disk.usedBytes();
    const [startedMs, startedCpu] = [performance.now(), cpu()];
    await Promise.all(
      image.layers.map(async ({ digest, size: sizeBytes }, index) => {
        const ref = `bench-${index}`;
        const blob = { digest: digest as Digest, sizeBytes, ref, lease: leaseId, labels: () => ({}) };
        const taken = await blobs.importFile(blob, files[index] as string, signal);
        if (taken !== route) throw new Error(`Cannot measure "${route}": the blob was ${taken}`);
      }),
    );
    const seconds = (performance.now() - startedMs) / 1000;
    const cpuSeconds = cpu() - startedCpu;
    const storedBytes = disk.usedBytes() - usedBytes;
    return { seconds, cpuSeconds, storedBytes };
  } finally {
    client.close();
  }
}

function ownCpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

await main();
