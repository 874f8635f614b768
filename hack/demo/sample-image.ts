import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type BuiltImage, buildImage } from '../../test/support/images/build-image.ts';
import type { LayerSource } from '../../test/support/images/layer-tar.ts';
import { busyboxLayer, randomBytes } from '../../test/support/images/samples.ts';
import { layersOfMachine } from './machine-files.ts';

/** Programs and data compress to about two fifths: four layers of this size make more than 200 MB. */
const LAYER_UNPACKED_BYTES = 115_000_000;
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
  const name = `image-${count}-${layerUnpackedBytes}-${runnable ? 'runnable' : 'plain'}`;
  return keepImage(directory, name, async () => {
    const layers = [...(runnable ? [busyboxLayer()] : []), ...layersOfMachine(count, layerUnpackedBytes)];
    const config = { Cmd: ['/bin/sh'] };
    const first = await buildImage({ layers, directory, config });
    const lacking = imageBytesMin - first.layerBytes;
    if (lacking <= 0) return first;
    return await buildImage({ layers: [...layers, filler(lacking)], directory, config });
  });
}

/** Builds an image once into a directory, which is emptied for it; later calls only read what is there. */
export async function keepImage(
  directory: string,
  name: string,
  build: () => Promise<BuiltImage>,
): Promise<BuiltImage> {
  const summary = join(directory, `${name}.json`);
  if (existsSync(summary)) return reopen(directory, summary);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const image = await build();
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

function filler(sizeBytes: number): LayerSource {
  const seed = createHash('sha256').update(String(sizeBytes)).digest('hex');
  return { entries: [{ name: 'data/filler', content: randomBytes(sizeBytes, seed) }] };
}
