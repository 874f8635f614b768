import type { Compression, Descriptor, Platform, RawDocument } from '../base/descriptor.ts';
import { type Digest, parseDigest } from '../base/digest.ts';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import { platformRank } from './platform.ts';

/** Largest manifest or index read, bytes; the distribution spec asks registries to take 4 MiB, and containerd caps at more. */
export const MANIFEST_BYTES_MAX = 4 * 1024 * 1024;
/** Largest image config read, bytes: a history of the most layers with kilobytes of text each still fits. */
export const CONFIG_BYTES_MAX = 4 * 1024 * 1024;
/** Most layers of an image. Overlayfs mounts at most 500 lower directories, so twice that is no real image. */
export const LAYERS_MAX = 1024;
/** Most entries of an index: every platform and attestation of the largest public indexes fits ten times. */
export const INDEX_ENTRIES_MAX = 1024;

export interface ManifestLayer {
  readonly descriptor: Descriptor;
  readonly compression: Compression;
}

export interface ImageIndex {
  readonly kind: 'index';
  readonly manifests: readonly Descriptor[];
}

export interface ImageManifest {
  readonly kind: 'manifest';
  readonly config: Descriptor;
  /** Lowest first. */
  readonly layers: readonly ManifestLayer[];
}

export interface ImageConfig {
  readonly platform: Platform;
  /** Digests of the uncompressed layers, lowest first; as many as the manifest has layers. */
  readonly diffIds: readonly Digest[];
}

const INDEX_TYPES = new Set([
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
]);
const MANIFEST_TYPES = new Set([
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
]);
const CONFIG_TYPES = new Set([
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
]);
const LAYER_COMPRESSIONS: Readonly<Record<string, Compression>> = {
  'application/vnd.oci.image.layer.v1.tar': 'none',
  'application/vnd.oci.image.layer.v1.tar+gzip': 'gzip',
  'application/vnd.oci.image.layer.v1.tar+zstd': 'zstd',
  'application/vnd.docker.image.rootfs.diff.tar': 'none',
  'application/vnd.docker.image.rootfs.diff.tar.gzip': 'gzip',
  'application/vnd.docker.image.rootfs.diff.tar.zstd': 'zstd',
};
const SCHEMA_1_PATTERN = /^application\/vnd\.docker\.distribution\.manifest\.v1\+(?:json|prettyjws)$/;
const FOREIGN_PATTERN = /\.(?:foreign\.diff|nondistributable\.v1)\.tar/;

type Json = Readonly<Record<string, unknown>>;

/** Media types asked for when a reference is resolved, best first. */
export const MANIFEST_ACCEPT = [...INDEX_TYPES, ...MANIFEST_TYPES, '*/*'].join(', ');

/**
 * Reads an index or a manifest (OCI image spec 1.1; Docker distribution, schema 2).
 * @throws ManifestInvalid when it contradicts itself, LimitExceeded, and Unsupported for what containerd has to handle:
 * schema 1, foreign, encrypted or unknown layers, artifacts that are no images.
 */
export function parseTarget(document: RawDocument): ImageIndex | ImageManifest {
  const { mediaType, digest } = document.descriptor;
  if (document.bytes.length > MANIFEST_BYTES_MAX)
    throw limit(`manifest "${digest}"`, `${document.bytes.length} bytes`, `${MANIFEST_BYTES_MAX} bytes`);
  if (SCHEMA_1_PATTERN.test(mediaType)) throw unsupported(digest, 'it is a schema 1 manifest');
  if (!INDEX_TYPES.has(mediaType) && !MANIFEST_TYPES.has(mediaType))
    throw unsupported(digest, `media type "${shown(mediaType)}" is neither an image index nor a manifest`);
  const json = parseJson(document.bytes, `manifest "${digest}"`);
  checkSelfDescription(json, mediaType, digest);
  return INDEX_TYPES.has(mediaType) ? readIndex(json, digest) : readManifest(json, digest);
}

/** As `parseTarget`, for the manifest that an index entry named: an index inside an index is containerd's to handle. */
export function parseManifest(document: RawDocument): ImageManifest {
  const target = parseTarget(document);
  if (target.kind === 'manifest') return target;
  throw unsupported(document.descriptor.digest, 'it is an index inside an index');
}

/**
 * Chooses the entry of an index for this node as containerd does: the best platform first, entries without a platform
 * last, attestations (`unknown/unknown`) never. @throws NotFound when none fits.
 */
export function chooseManifest(index: ImageIndex, wanted: Platform): Descriptor {
  let best: Descriptor | undefined;
  let bestRank = Number.POSITIVE_INFINITY;
  for (const manifest of index.manifests) {
    const rank = manifest.platform ? platformRank(wanted, manifest.platform) : Number.MAX_SAFE_INTEGER;
    if (rank === undefined || rank >= bestRank) continue;
    best = manifest;
    bestRank = rank;
  }
  if (best !== undefined) return best;
  const name = [wanted.os, wanted.architecture, wanted.variant].filter(Boolean).join('/');
  throw new ShoalError(
    ErrorCode.NotFound,
    `Cannot choose a manifest for "${name}": the index has none for it`,
  );
}

/** Reads an image config and checks that it describes as many layers as the manifest lists. @throws ManifestInvalid. */
export function parseImageConfig(document: RawDocument, layerCount: number): ImageConfig {
  const what = `config "${document.descriptor.digest}"`;
  if (document.bytes.length > CONFIG_BYTES_MAX)
    throw limit(what, `${document.bytes.length} bytes`, `${CONFIG_BYTES_MAX} bytes`);
  const json = parseJson(document.bytes, what);
  const rootfs = object(json.rootfs, `${what}, "rootfs"`);
  if (rootfs.type !== 'layers') throw invalid(what, 'rootfs type is not "layers"');
  const diffIds = array(rootfs.diff_ids ?? [], `${what}, "diff_ids"`).map((id) => parseDigest(String(id)));
  if (diffIds.length !== layerCount)
    throw invalid(what, `${diffIds.length} diff IDs found, ${layerCount} wanted for the manifest's layers`);
  return { platform: readPlatform(json, what), diffIds };
}

function readIndex(json: Json, digest: Digest): ImageIndex {
  const entries = array(json.manifests, `index "${digest}", "manifests"`);
  if (entries.length > INDEX_ENTRIES_MAX)
    throw limit(`index "${digest}"`, `${entries.length} entries`, `${INDEX_ENTRIES_MAX}`);
  const manifests = entries.map((entry, at) => readDescriptor(entry, `index "${digest}", entry ${at}`));
  return { kind: 'index', manifests };
}

function readManifest(json: Json, digest: Digest): ImageManifest {
  const what = `manifest "${digest}"`;
  const config = readDescriptor(json.config, `${what}, config`);
  if (!CONFIG_TYPES.has(config.mediaType))
    throw unsupported(digest, `its config has media type "${shown(config.mediaType)}", no image config`);
  if (config.sizeBytes > CONFIG_BYTES_MAX)
    throw limit(`config of ${what}`, `${config.sizeBytes} bytes`, `${CONFIG_BYTES_MAX} bytes`);
  const entries = array(json.layers, `${what}, "layers"`);
  if (entries.length > LAYERS_MAX) throw limit(what, `${entries.length} layers`, `${LAYERS_MAX}`);
  const layers = entries.map((entry, at) => readLayer(entry, digest, at));
  return { kind: 'manifest', config, layers };
}

function readLayer(entry: unknown, digest: Digest, at: number): ManifestLayer {
  const descriptor = readDescriptor(entry, `manifest "${digest}", layer ${at}`);
  const { mediaType, urls } = descriptor;
  if (FOREIGN_PATTERN.test(mediaType) || (urls !== undefined && urls.length > 0))
    throw unsupported(digest, `layer ${at} is foreign (non-distributable)`);
  if (mediaType.endsWith('+encrypted')) throw unsupported(digest, `layer ${at} is encrypted`);
  const compression = Object.hasOwn(LAYER_COMPRESSIONS, mediaType)
    ? LAYER_COMPRESSIONS[mediaType]
    : undefined;
  if (compression === undefined)
    throw unsupported(digest, `layer ${at} has the unknown media type "${shown(mediaType)}"`);
  return { descriptor, compression };
}

/** A document that reads as both kinds, or says it is another, means different images to different clients. */
function checkSelfDescription(json: Json, mediaType: string, digest: Digest): void {
  const what = `manifest "${digest}"`;
  if (json.schemaVersion !== 2) throw invalid(what, 'schemaVersion is not 2');
  const own = json.mediaType;
  if (own !== undefined && own !== mediaType)
    throw invalid(what, `it says it is "${shown(String(own))}", the registry said "${shown(mediaType)}"`);
  const isIndex = INDEX_TYPES.has(mediaType);
  const stray = (
    isIndex ? ['config', 'layers', 'fsLayers', 'history'] : ['manifests', 'fsLayers', 'history']
  ).find((key) => json[key] !== undefined);
  if (stray !== undefined)
    throw invalid(what, `${isIndex ? 'an index' : 'a manifest'} with "${stray}" is ambiguous`);
}

function readDescriptor(value: unknown, what: string): Descriptor {
  const json = object(value, what);
  const { mediaType, size } = json;
  if (typeof mediaType !== 'string' || mediaType === '') throw invalid(what, 'no media type found');
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
    throw invalid(what, 'no size found, a whole number of bytes wanted');
  const platform = json.platform;
  const { annotations, urls } = json;
  return {
    mediaType,
    digest: parseDigest(String(json.digest)),
    sizeBytes: size,
    ...(annotations != null && { annotations: stringRecord(annotations, `${what}, annotations`) }),
    ...(urls != null && { urls: array(urls, `${what}, urls`).map(String) }),
    ...(platform != null && { platform: readPlatform(object(platform, `${what}, platform`), what) }),
  };
}

function readPlatform(json: Json, what: string): Platform {
  const { os, architecture, variant } = json;
  const osVersion = json['os.version'];
  if (typeof os !== 'string' || typeof architecture !== 'string')
    throw invalid(what, 'no platform found, os and architecture wanted');
  return {
    os,
    architecture,
    ...(typeof variant === 'string' && variant !== '' && { variant }),
    ...(typeof osVersion === 'string' && osVersion !== '' && { osVersion }),
  };
}

function parseJson(bytes: Uint8Array, what: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw invalid(what, 'not JSON');
  }
  return object(value, what);
}

function object(value: unknown, what: string): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw invalid(what, 'a JSON object wanted');
}

function array(value: unknown, what: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw invalid(what, 'a JSON array wanted');
}

function stringRecord(value: unknown, what: string): Record<string, string> {
  const entries = Object.entries(object(value, what));
  return Object.fromEntries(entries.map(([key, text]) => [key, String(text)]));
}

function invalid(what: string, found: string): ShoalError {
  return new ShoalError(ErrorCode.ManifestInvalid, `Cannot read ${what}: ${found}`);
}

function unsupported(digest: Digest, found: string): ShoalError {
  return new ShoalError(ErrorCode.Unsupported, `Cannot accelerate "${digest}": ${found}`);
}

function limit(what: string, found: string, wanted: string): ShoalError {
  return new ShoalError(
    ErrorCode.LimitExceeded,
    `Cannot read ${what}: ${found} found, at most ${wanted} wanted`,
  );
}

function shown(text: string): string {
  return text.slice(0, 100).replace(/[^\x20-\x7e]/g, '?');
}
