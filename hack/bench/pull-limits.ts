import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { BuiltImage } from '../../test/support/images/build-image.ts';
import { componentPath, componentsAvailable } from '../../test/support/real/components.ts';
import { type FileSystemKind, loopFileSystem } from '../../test/support/real/file-system.ts';

/** What the machine can do with the layers as local files, without registry, hashes and containerd. */
export interface PhysicalLimits {
  /** The program that inflates. */
  readonly inflater: string;
  /** All layers inflated at once into nothing. */
  readonly inflateSeconds: number;
  /** All layers at once, piped into `tar x` on a fresh file system. */
  readonly untarSeconds: number;
  /** What is added by SHA-256 of all blobs and of all that they hold, which no client may leave out. */
  readonly hashSeconds: number;
}

export async function physicalLimits(
  image: BuiltImage,
  fileSystem: FileSystemKind,
  fileSystemBytes: number,
): Promise<PhysicalLimits> {
  const inflater = inflaterOf(image);
  const blobs = image.layers.map((layer) => image.blobPath(layer.digest));
  const each = (command: (source: string, index: number) => string): Promise<number> =>
    timed(blobs.map((blob, index) => command(`${inflater} ${blob}`, index)));
  const inflateSeconds = await each((inflate) => `${inflate} >/dev/null`);
  const hash = hasherOf();
  const inflateAndHashSeconds = await each((inflate) => `${inflate} | ${hash} >/dev/null`);
  const blobHashSeconds = await each((_inflate, index) => `${hash} ${blobs[index]} >/dev/null`);
  await using disk = await loopFileSystem(fileSystemBytes, fileSystem);
  const untarSeconds = await each((inflate, index) => {
    const directory = join(disk.path, String(index));
    mkdirSync(directory);
    return `${inflate} | tar -x -p --numeric-owner -f - -C ${directory}`;
  });
  return {
    inflater: inflater.split('/').at(-1) ?? inflater,
    inflateSeconds,
    untarSeconds,
    hashSeconds: inflateAndHashSeconds - inflateSeconds + blobHashSeconds,
  };
}

/** The fastest at hand; what the coreutils bring may do without the processor's instructions for it. */
function hasherOf(): string {
  return spawnSync('openssl', ['version']).status === 0 ? 'openssl dgst -sha256' : 'sha256sum';
}

function inflaterOf(image: BuiltImage): string {
  if (image.layers.some((layer) => layer.mediaType.endsWith('zstd'))) return 'zstd -dcq';
  return componentsAvailable('isal') === null ? `${componentPath('isal')}/igzip -dc` : 'gzip -dc';
}

async function timed(commands: readonly string[]): Promise<number> {
  const startedMs = performance.now();
  await Promise.all(commands.map(run));
  return (performance.now() - startedMs) / 1000;
}

async function run(command: string): Promise<void> {
  const child = spawn('sh', ['-c', command], { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`Cannot measure "${command}": exit code ${code}`);
}
