import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type BuiltImage, buildImage } from '../../test/support/images/build-image.ts';
import type { LayerEntry, LayerSource } from '../../test/support/images/layer-tar.ts';
import { busyboxLayer, randomBytes } from '../../test/support/images/samples.ts';

/** Where the files of the sample image come from: what every machine with a system on it has. */
const SOURCES = ['/usr/bin', '/usr/lib', '/usr/share', '/usr/local', '/usr/include', '/opt'];
/** Programs and data compress to about two fifths: four layers of this size make more than 200 MB. */
const LAYER_UNPACKED_BYTES = 115_000_000;
/** Larger files would make layers of very different sizes. */
const FILE_BYTES_MAX = 64_000_000;
/** A directory deeper than this is no program's or library's. */
const DEPTH_MAX = 12;

export interface SampleImageOptions {
  /** Where the image is kept as an OCI layout. */
  readonly directory: string;
  /** Whether a container can run from it: adds a layer with busybox. */
  readonly runnable: boolean;
  readonly layers?: number;
  readonly layerUnpackedBytes?: number;
  /** Compressed; a machine with few files gets a layer of random bytes on top. */
  readonly imageBytesMin?: number;
}

/** Builds an image of files of this machine, once; later calls only read what is there. */
export async function sampleImage(options: SampleImageOptions): Promise<BuiltImage> {
  const { directory, runnable, layers: count = 4, layerUnpackedBytes = LAYER_UNPACKED_BYTES } = options;
  const { imageBytesMin = 200_000_000 } = options;
  const summary = join(
    directory,
    `image-${count}-${layerUnpackedBytes}-${runnable ? 'runnable' : 'plain'}.json`,
  );
  if (existsSync(summary)) return reopen(directory, summary);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const layers = [...(runnable ? [busyboxLayer()] : []), ...layersOfMachine(count, layerUnpackedBytes)];
  const first = await buildImage({ layers, directory, config: { Cmd: ['/bin/sh'] } });
  const lacking = imageBytesMin - first.layerBytes;
  const image =
    lacking <= 0
      ? first
      : await buildImage({ layers: [...layers, filler(lacking)], directory, config: { Cmd: ['/bin/sh'] } });
  const { blobPath, remove, ...plain } = image;
  writeFileSync(`${summary}.tmp`, JSON.stringify(plain));
  renameSync(`${summary}.tmp`, summary);
  return image;
}

function reopen(directory: string, summary: string): BuiltImage {
  const plain = JSON.parse(readFileSync(summary, 'utf8')) as Omit<BuiltImage, 'blobPath' | 'remove'>;
  const keep = (): void => {};
  const blobPath = (digest: string): string =>
    join(directory, 'blobs/sha256', digest.slice('sha256:'.length));
  return { ...plain, directory, blobPath, remove: keep, [Symbol.dispose]: keep };
}

/** Files in sorted order, dealt to layers by size; the rest is left out. */
function layersOfMachine(count: number, layerUnpackedBytes: number): LayerSource[] {
  const layers: LayerEntry[][] = [];
  let room = 0;
  for (const entry of SOURCES.flatMap((source) => [...files(source, 0)])) {
    if (room <= 0) {
      if (layers.length === count) break;
      layers.push([]);
      room = layerUnpackedBytes;
    }
    layers.at(-1)?.push(entry.layerEntry);
    room -= entry.sizeBytes;
  }
  return layers.map((entries) => ({ entries }));
}

function* files(directory: string, depth: number): Generator<{ layerEntry: LayerEntry; sizeBytes: number }> {
  if (depth > DEPTH_MAX || !isReadable(directory)) return;
  for (const child of readdirSync(directory, { withFileTypes: true }).sort((a, b) =>
    a.name < b.name ? -1 : 1,
  )) {
    const path = join(directory, child.name);
    if (child.isDirectory()) yield* files(path, depth + 1);
    if (!child.isFile()) continue;
    const { size, mode } = lstatSync(path);
    if (size === 0 || size > FILE_BYTES_MAX || !isReadable(path)) continue;
    yield {
      layerEntry: { name: path.slice(1), mode: mode & 0o777, content: { file: path } },
      sizeBytes: size,
    };
  }
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

function filler(sizeBytes: number): LayerSource {
  const seed = createHash('sha256').update(String(sizeBytes)).digest('hex');
  return { entries: [{ name: 'data/filler', content: randomBytes(sizeBytes, seed) }] };
}
