import { readFileSync } from 'node:fs';
import type { Compression, Descriptor, RawDocument } from '../../../shim/base/descriptor.ts';
import { chainIdsOf, type Digest, parseDigest } from '../../../shim/base/digest.ts';
import type { ImagePlan, ImportSession, LayerPlan, ReadyLayer } from '../../../shim/store/image-store.ts';
import { createUnpackPool } from '../../../shim/unpack/create-unpack-pool.ts';
import type { Descriptor as BuiltDescriptor, BuiltImage } from '../images/build-image.ts';

const UNPACKED_BYTES_MAX = 2 ** 40;

export interface PlanOptions {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  readonly repository: string;
  readonly tag: string;
  readonly runtimeHandler?: string;
}

/** The plan of a pull of `image`, as planned from its documents at a registry. */
export function planOf(image: BuiltImage, options: PlanOptions): ImagePlan {
  const { host, repository, tag, runtimeHandler } = options;
  const target = descriptorOf(image.root);
  const diffIds = image.diffIds.map(parseDigest);
  const chainIds = chainIdsOf(diffIds);
  const layers = image.layers.map(
    (layer, index): LayerPlan => ({
      descriptor: descriptorOf(layer),
      diffId: diffIds[index] as Digest,
      chainId: chainIds[index] as Digest,
      compression: compressionOf(layer.mediaType),
    }),
  );
  return {
    names: [`${host}/${repository}@${target.digest}`, `${host}/${repository}:${tag}`],
    target,
    host,
    repository,
    index: image.root === image.manifest ? undefined : documentOf(image, image.root),
    manifest: documentOf(image, image.manifest),
    config: documentOf(image, image.config),
    layers,
    runtimeHandler,
  };
}

/** Extracts one layer into the session's staging directory, all bytes at hand. */
export async function unpackForSession(
  session: ImportSession,
  index: number,
  layer: LayerPlan,
  blobPath: string,
  signal: AbortSignal,
): Promise<ReadyLayer> {
  if (session.treeMode === 'none') return { blobPath, stagingDirectory: undefined, impliedDirectories: [] };
  const stagingDirectory = await session.stagingDirectory(index, signal);
  const pool = createUnpackPool({ workersMax: 1, idleMs: 0 });
  try {
    const run = pool.start(
      {
        sourcePath: blobPath,
        sizeBytes: layer.descriptor.sizeBytes,
        digest: layer.descriptor.digest,
        diffId: layer.diffId,
        compression: layer.compression,
        // Nothing lies below the lowest layer, so that its whiteouts have nothing to hide.
        mode: index === 0 ? 'merge' : 'overlay',
        targetDirectory: stagingDirectory,
        privileged: true,
        unpackedBytesMax: UNPACKED_BYTES_MAX,
      },
      signal,
    );
    run.advance(layer.descriptor.sizeBytes);
    const { impliedDirectories } = await run.result;
    return { blobPath, stagingDirectory, impliedDirectories };
  } finally {
    await pool.close();
  }
}

/** Brings every missing layer, all at once, from files that `blobPathOf` names. Returns what `addLayer` gave. */
export async function addMissingLayers(
  session: ImportSession,
  plan: ImagePlan,
  blobPathOf: (digest: Digest) => string,
  signal: AbortSignal,
): Promise<(string | undefined)[]> {
  const added = [...session.missing].map(async (index) => {
    const layer = plan.layers[index] as LayerPlan;
    const ready = await unpackForSession(session, index, layer, blobPathOf(layer.descriptor.digest), signal);
    return await session.addLayer(index, ready, signal);
  });
  return await Promise.all(added);
}

function documentOf(image: BuiltImage, descriptor: BuiltDescriptor): RawDocument {
  return { descriptor: descriptorOf(descriptor), bytes: readFileSync(image.blobPath(descriptor.digest)) };
}

function descriptorOf({ mediaType, digest, size }: BuiltDescriptor): Descriptor {
  return { mediaType, digest: parseDigest(digest), sizeBytes: size };
}

function compressionOf(mediaType: string): Compression {
  if (/gzip$/.test(mediaType)) return 'gzip';
  return /zstd$/.test(mediaType) ? 'zstd' : 'none';
}
