import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { PassThrough, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip, createZstdCompress } from 'node:zlib';
import { makeTemporaryRoot } from '../real/temporary-root.ts';
import { type LayerSource, layerTar } from './layer-tar.ts';

const DEFAULT_GZIP_LEVEL = 1;
const FILE_CHUNK_BYTES = 1 << 20;
/** A fixed date, so that equal content gives equal digests. */
const CREATED = '2026-01-01T00:00:00Z';

/** One before and one after the right entry, so that neither "first" nor "last" is a lucky choice. */
const decoyPlatforms: readonly Platform[] = [
  { os: 'linux', architecture: 'mips64le' },
  { os: 'linux', architecture: 'riscv64' },
];

export type Compression = 'gzip' | 'zstd' | 'none';
export type MediaTypes = 'oci' | 'docker';

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: Platform;
}

export interface BuildOptions {
  readonly layers: readonly LayerSource[];
  /** One for all layers, or one a layer. Default gzip. */
  readonly compression?: Compression | readonly Compression[];
  /** 0 to 9. Default 1: fast, and the ratio hardly matters here. */
  readonly gzipLevel?: number;
  /** Default oci. */
  readonly mediaTypes?: MediaTypes;
  /** Default: this machine's. */
  readonly platform?: Platform;
  /** Wraps the manifest in an index, between manifests of other platforms that have no layers. */
  readonly indexed?: boolean;
  /** The `config` member of the image config: Cmd, Entrypoint, Env, User, Labels, … */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Where the OCI image layout is written. Default: a new temporary folder, removed with the handle. */
  readonly directory?: string;
}

/** An image as an OCI image layout on disk. */
export interface BuiltImage extends Disposable {
  readonly directory: string;
  /** What a tag points to: the index if there is one, else the manifest. */
  readonly root: Descriptor;
  readonly manifest: Descriptor;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly diffIds: readonly string[];
  /** Bytes of all layer blobs together. */
  readonly layerBytes: number;
  /** All blobs once each: configs and layers. */
  readonly blobs: readonly Descriptor[];
  /** All manifests below an index, or the one manifest. */
  readonly manifests: readonly Descriptor[];
  blobPath(digest: string): string;
  remove(): void;
}

/** Builds an image deterministically: equal options give equal digests. Layers are streamed to files. */
export async function buildImage(options: BuildOptions): Promise<BuiltImage> {
  const temporary = options.directory === undefined ? makeTemporaryRoot('img') : undefined;
  const directory = temporary?.path ?? resolve(options.directory ?? '');
  mkdirSync(join(directory, 'blobs/sha256'), { recursive: true });
  const types = mediaTypesOf(options.mediaTypes ?? 'oci');
  const written = await Promise.all(
    options.layers.map(async (source, index) => {
      const compression = compressionOf(options, index);
      const layer = await writeLayer(directory, source, compressor(compression, options));
      const descriptor = { mediaType: types.layer(compression), digest: layer.digest, size: layer.size };
      return { descriptor, diffId: layer.diffId };
    }),
  );
  const layers: Descriptor[] = written.map((layer) => layer.descriptor);
  const diffIds = written.map((layer) => layer.diffId);
  const platform = options.platform ?? thisPlatform();
  const config = writeJsonBlob(directory, types.config, imageConfig(options, platform, diffIds));
  const manifest = writeJsonBlob(directory, types.manifest, {
    schemaVersion: 2,
    mediaType: types.manifest,
    config,
    layers,
    ...(options.annotations && { annotations: options.annotations }),
  });
  const decoys = options.indexed ? decoyPlatforms.map((decoy) => writeDecoy(directory, types, decoy)) : [];
  const manifests = [...decoys.slice(0, 1).map((decoy) => decoy.manifest), { ...manifest, platform }];
  manifests.push(...decoys.slice(1).map((decoy) => decoy.manifest));
  const index = { schemaVersion: 2, mediaType: types.index, manifests };
  const root = options.indexed ? writeJsonBlob(directory, types.index, index) : manifest;
  writeLayoutFiles(directory, root);
  const configs = [config, ...decoys.map((decoy) => decoy.config)];
  const parts = { directory, root, manifest, manifests, config, layers, diffIds };
  return handle(parts, configs, () => temporary?.remove());
}

/** linux on the architecture of this machine, in Go's names. */
export function thisPlatform(): Platform {
  return { os: 'linux', architecture: process.arch === 'x64' ? 'amd64' : process.arch };
}

type Parts = Omit<BuiltImage, 'layerBytes' | 'blobs' | 'blobPath' | 'remove' | typeof Symbol.dispose>;

function handle(parts: Parts, configs: readonly Descriptor[], remove: () => void): BuiltImage {
  return {
    ...parts,
    layerBytes: parts.layers.reduce((sum, layer) => sum + layer.size, 0),
    blobs: [...new Map([...configs, ...parts.layers].map((blob) => [blob.digest, blob])).values()],
    blobPath: (digest) => blobPath(parts.directory, digest),
    remove,
    [Symbol.dispose]: remove,
  };
}

interface WrittenLayer {
  readonly digest: string;
  readonly diffId: string;
  readonly size: number;
}

async function writeLayer(
  directory: string,
  source: LayerSource,
  compressing: NodeJS.ReadWriteStream,
): Promise<WrittenLayer> {
  const partial = join(
    directory,
    `blobs/sha256/.partial-${process.pid}-${Math.random().toString(36).slice(2)}`,
  );
  const diff = hashTap();
  const blob = hashTap();
  await pipeline(
    layerTar(source),
    diff.stream,
    compressing,
    blob.stream,
    createWriteStream(partial, { highWaterMark: FILE_CHUNK_BYTES }),
  );
  const digest = blob.digest();
  renameSync(partial, blobPath(directory, digest));
  return { digest, diffId: diff.digest(), size: (await stat(blobPath(directory, digest))).size };
}

function compressor(
  compression: Compression,
  { gzipLevel = DEFAULT_GZIP_LEVEL }: BuildOptions,
): NodeJS.ReadWriteStream {
  if (compression === 'gzip') return createGzip({ level: gzipLevel, chunkSize: FILE_CHUNK_BYTES });
  if (compression === 'zstd') return createZstdCompress({ chunkSize: FILE_CHUNK_BYTES });
  return new PassThrough();
}

/** Lets bytes pass and remembers their digest. */
function hashTap(): { stream: Transform; digest: () => string } {
  const hash = createHash('sha256');
  const stream = new Transform({
    highWaterMark: FILE_CHUNK_BYTES,
    transform(chunk: Buffer, _encoding, callback) {
      hash.update(chunk);
      callback(null, chunk);
    },
  });
  return { stream, digest: () => `sha256:${hash.digest('hex')}` };
}

function writeJsonBlob(directory: string, mediaType: string, value: object): Descriptor {
  const bytes = Buffer.from(JSON.stringify(value));
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  writeFileSync(blobPath(directory, digest), bytes);
  return { mediaType, digest, size: bytes.length };
}

function writeLayoutFiles(directory: string, root: Descriptor): void {
  writeFileSync(join(directory, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  writeFileSync(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [root] }));
}

function imageConfig(options: BuildOptions, platform: Platform, diffIds: readonly string[]): object {
  return {
    created: CREATED,
    ...platform,
    config: options.config ?? {},
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: diffIds.map((_, position) => ({ created: CREATED, created_by: `layer ${position}` })),
  };
}

type TypeNames = ReturnType<typeof mediaTypesOf>;

/** A valid image of another platform without layers: whoever picks it by mistake gets an empty image. */
function writeDecoy(directory: string, types: TypeNames, platform: Platform) {
  const config = writeJsonBlob(directory, types.config, imageConfig({ layers: [] }, platform, []));
  const content = { schemaVersion: 2, mediaType: types.manifest, config, layers: [] };
  return { config, manifest: { ...writeJsonBlob(directory, types.manifest, content), platform } };
}

function mediaTypesOf(kind: MediaTypes) {
  const oci = 'application/vnd.oci.image';
  const docker = 'application/vnd.docker';
  const suffix = { gzip: '+gzip', zstd: '+zstd', none: '' };
  if (kind === 'oci') {
    return {
      config: `${oci}.config.v1+json`,
      manifest: `${oci}.manifest.v1+json`,
      index: `${oci}.index.v1+json`,
      layer: (compression: Compression) => `${oci}.layer.v1.tar${suffix[compression]}`,
    };
  }
  const dockerSuffix = { gzip: '.gzip', zstd: '.zstd', none: '' };
  return {
    config: `${docker}.container.image.v1+json`,
    manifest: `${docker}.distribution.manifest.v2+json`,
    index: `${docker}.distribution.manifest.list.v2+json`,
    layer: (compression: Compression) => `${docker}.image.rootfs.diff.tar${dockerSuffix[compression]}`,
  };
}

function compressionOf(options: BuildOptions, layer: number): Compression {
  const { compression = 'gzip' } = options;
  return typeof compression === 'string' ? compression : (compression[layer] ?? 'gzip');
}

function blobPath(directory: string, digest: string): string {
  return join(directory, 'blobs/sha256', digest.slice('sha256:'.length));
}

/** The bytes of one blob as a stream, for uploads. */
export function readBlob(image: BuiltImage, digest: string) {
  return createReadStream(image.blobPath(digest), { highWaterMark: FILE_CHUNK_BYTES });
}
