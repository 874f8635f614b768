import { spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { type BuildOptions, type BuiltImage, buildImage } from '../../test/support/images/build-image.ts';
import type { LayerEntry } from '../../test/support/images/layer-tar.ts';
import { randomBytes } from '../../test/support/images/samples.ts';
import { layersOfMachine } from '../demo/machine-files.ts';
import { keepImage, sampleImage } from '../demo/sample-image.ts';

const CACHE = resolve(import.meta.dirname, '../../.cache/bench');
const COMPONENTS = resolve(import.meta.dirname, '../../.cache/components');

/** One image to pull. */
export interface PullCase {
  readonly name: string;
  /** Builds the image once; later calls find it in `.cache/bench`. */
  readonly build: () => Promise<BuiltImage>;
  /** Pulled often, removed in between, and judged by its 95th percentile: an image whose pull takes no time to speak of. */
  readonly isSmall?: true;
}

const CASES: readonly PullCase[] = [
  {
    // Programs, libraries, headers and documents of this machine: many small files, some large ones.
    name: 'machine-4-layers-gzip',
    build: () =>
      sampleImage({
        directory: join(CACHE, 'machine-4-layers-gzip'),
        runnable: false,
        layers: 4,
        layerUnpackedBytes: 500_000_000,
      }),
  },
  kept('toolchains-4-layers-gzip', () => ({
    layers: layersOfMachine(4, 950_000_000, {
      sources: [goModules(), '/usr/share', '/usr/include', '/usr/lib', '/usr/local', '/usr/bin'],
      directories: true,
    }),
    gzipLevel: 4,
  })),
  kept('large-files-gzip', () => ({ layers: largeFiles(), gzipLevel: 4 })),
  kept('large-files-zstd', () => ({ layers: largeFiles(), compression: 'zstd' })),
  kept('40-layers-gzip', () => ({
    layers: layersOfMachine(40, 50_000_000, { sources: ['/usr/lib', '/usr/share', '/usr/bin', goModules()] }),
    gzipLevel: 4,
  })),
  kept('small-files-gzip', () => ({ layers: [{ entries: smallFiles() }], gzipLevel: 4 })),
  {
    ...kept('small-image-gzip', () => ({
      layers: layersOfMachine(3, 4_000_000, { sources: ['/usr/bin'], fileBytesMax: 1_000_000 }),
    })),
    isSmall: true,
  },
];

/** The cases to run: one by name, or all. */
export function pullCases(name: string | undefined): readonly PullCase[] {
  const chosen = CASES.filter((each) => name === undefined || each.name === name);
  if (chosen.length === 0)
    throw new Error(`Cannot run case "${name}": ${CASES.map((each) => each.name).join(', ')} are known`);
  return chosen;
}

function kept(name: string, options: () => BuildOptions): PullCase {
  const directory = join(CACHE, name);
  return { name, build: () => keepImage(directory, 'image', () => buildImage({ ...options(), directory })) };
}

/** Sources of Go modules, where there are any: many directories, small files. */
function goModules(): string {
  const { stdout } = spawnSync('go', ['env', 'GOMODCACHE'], { encoding: 'utf8' });
  return stdout?.trim() || '/usr/share/doc';
}

/** One layer of about 1 GB unpacked. */
function largeFiles() {
  return layersOfMachine(1, 1_000_000_000, {
    sources: [COMPONENTS, '/usr/lib', '/usr/bin'],
    fileBytesMin: 8_000_000,
    fileBytesMax: 512_000_000,
  });
}

/** 200,000 files of 1 to 4 KB, in directories of 500, half as compressible as text. */
function smallFiles(): LayerEntry[] {
  const content = Buffer.from(randomBytes(32_000_000, 'small-files').toString('hex'), 'latin1');
  const entries: LayerEntry[] = [];
  for (let index = 0; index < 200_000; index += 1) {
    const directory = `data/${Math.floor(index / 500)}`;
    if (index % 500 === 0) entries.push({ name: `${directory}/`, type: 'directory' });
    // Far from its neighbours' content, which a compressor would find in its window.
    const start = (index * 1_000_003) % (content.length - 4096);
    entries.push({
      name: `${directory}/${index}`,
      content: content.subarray(start, start + 1024 + ((index * 7) % 3072)),
    });
  }
  return entries;
}
