import { createCipheriv, createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { componentPath } from '../real/components.ts';
import { type BuildOptions, type BuiltImage, buildImage } from './build-image.ts';
import type { LayerEntry, LayerSource } from './layer-tar.ts';

const CHUNK_BYTES = 1 << 20;
/** The applets that the sample containers call. */
const APPLETS = ['sh', 'ls', 'cat', 'sleep', 'sha256sum', 'stat', 'true', 'false', 'find', 'id'];

/** Incompressible bytes that depend on the seed alone: AES-CTR over zeros, as fast as the disk. */
export function randomBytes(sizeBytes: number, seed: string): Buffer {
  return cipherOf(seed).update(Buffer.alloc(sizeBytes));
}

/** A file of such bytes; streamed, so of any size. */
export async function randomBytesFile(path: string, sizeBytes: number, seed: string): Promise<void> {
  const cipher = cipherOf(seed);
  const chunks = function* () {
    for (let left = sizeBytes; left > 0; left -= CHUNK_BYTES) {
      yield cipher.update(Buffer.alloc(Math.min(left, CHUNK_BYTES)));
    }
  };
  await pipeline(Readable.from(chunks()), createWriteStream(path));
}

/** A layer with a static busybox and links to it, enough to run a container from. */
export function busyboxLayer(): LayerSource {
  const folders = ['bin/', 'dev/', 'etc/', 'proc/', 'sys/', 'tmp/'];
  return {
    entries: [
      ...folders.map(
        (name): LayerEntry => ({ name, type: 'directory', mode: name === 'tmp/' ? 0o1777 : 0o755 }),
      ),
      { name: 'bin/busybox', mode: 0o755, content: { file: `${componentPath('busybox')}/busybox` } },
      ...APPLETS.map(
        (applet): LayerEntry => ({ name: `bin/${applet}`, type: 'symlink', linkname: 'busybox' }),
      ),
      {
        name: 'etc/passwd',
        content: 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
      },
      { name: 'etc/group', content: 'root:x:0:\nnogroup:x:65534:\n' },
    ],
  };
}

/** Does what a pause image does: waits for ever. */
export function buildSandboxImage(options: Partial<BuildOptions> = {}): Promise<BuiltImage> {
  return buildImage({ layers: [busyboxLayer()], config: { Cmd: ['/bin/sleep', '2147483647'] }, ...options });
}

export interface SampleOptions extends Partial<BuildOptions> {
  /** Sizes of the layers above busybox, each one incompressible file `/data/N`. */
  readonly layerSizesBytes: readonly number[];
  /** Other seeds give other content. Default "sample". */
  readonly seed?: string;
}

/** A runnable image whose layers have about the given sizes on the wire. */
export function buildSampleImage({
  layerSizesBytes,
  seed = 'sample',
  ...options
}: SampleOptions): Promise<BuiltImage> {
  const data = layerSizesBytes.map((sizeBytes, position): LayerSource => {
    const content = randomBytes(sizeBytes, `${seed}-${position}`);
    return {
      entries: [
        { name: 'data/', type: 'directory' },
        { name: `data/${position}`, content },
      ],
    };
  });
  // Trying to compress what cannot be would take most of the time.
  return buildImage({
    layers: [busyboxLayer(), ...data],
    config: { Cmd: ['/bin/sh'] },
    gzipLevel: 0,
    ...options,
  });
}

function cipherOf(seed: string) {
  const key = createHash('sha256').update(seed).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
}
