import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { RawDocument } from '../../../shim/base/descriptor.ts';
import { digestOf } from '../../../shim/base/digest.ts';
import { ErrorCode, isShoalError } from '../../../shim/base/errors.ts';
import {
  chooseManifest,
  INDEX_ENTRIES_MAX,
  LAYERS_MAX,
  MANIFEST_BYTES_MAX,
  parseImageConfig,
  parseManifest,
  parseTarget,
} from '../../../shim/registry/manifest.ts';

const OCI = 'application/vnd.oci.image';
const DOCKER = 'application/vnd.docker';
const MANIFEST = `${OCI}.manifest.v1+json`;
const INDEX = `${OCI}.index.v1+json`;

const entry = (mediaType: string, fields: object = {}) => ({
  mediaType,
  digest: digestOf(mediaType),
  size: 10,
  ...fields,
});
const manifest = (layers: readonly object[], fields: object = {}) => ({
  schemaVersion: 2,
  config: entry(`${OCI}.config.v1+json`),
  layers,
  ...fields,
});
const layer = entry(`${OCI}.layer.v1.tar+gzip`);

function documentOf(content: unknown, mediaType = MANIFEST): RawDocument {
  const bytes = Buffer.from(typeof content === 'string' ? content : JSON.stringify(content));
  return { descriptor: { mediaType, digest: digestOf(bytes), sizeBytes: bytes.length }, bytes };
}

const fails = (code: ErrorCode, work: () => unknown, pattern?: RegExp) =>
  assert.throws(
    work,
    (error: unknown) => isShoalError(error, code) && (pattern?.test(error.message) ?? true),
  );

const COMPRESSIONS = {
  [`${OCI}.layer.v1.tar`]: 'none',
  [`${OCI}.layer.v1.tar+gzip`]: 'gzip',
  [`${OCI}.layer.v1.tar+zstd`]: 'zstd',
  [`${DOCKER}.image.rootfs.diff.tar`]: 'none',
  [`${DOCKER}.image.rootfs.diff.tar.gzip`]: 'gzip',
  [`${DOCKER}.image.rootfs.diff.tar.zstd`]: 'zstd',
};

for (const [mediaType, compression] of Object.entries(COMPRESSIONS))
  test(`parseManifest() knows layers of ${mediaType}`, () => {
    const { layers } = parseManifest(documentOf(manifest([entry(mediaType)])));
    assert.equal(layers, [
      { descriptor: { mediaType, digest: digestOf(mediaType), sizeBytes: 10 }, compression },
    ]);
  });

test('parseManifest() reads a Docker schema 2 manifest, empty layers lists and repeated layers', () => {
  const type = `${DOCKER}.distribution.manifest.v2+json`;
  const config = entry(`${DOCKER}.container.image.v1+json`);
  assert.is(
    parseManifest(documentOf(manifest([layer, layer], { config, mediaType: type }), type)).layers.length,
    2,
  );
  assert.equal(parseManifest(documentOf(manifest([]))).layers, []);
});

const HANDED_OVER: Readonly<Record<string, RawDocument>> = {
  'schema 1': documentOf({ schemaVersion: 1, fsLayers: [] }, `${DOCKER}.distribution.manifest.v1+prettyjws`),
  'a media type that is no image': documentOf({ schemaVersion: 2 }, 'application/vnd.example+json'),
  'a config that is no image config': documentOf(
    manifest([layer], { config: entry('application/vnd.oci.empty.v1+json') }),
  ),
  'Docker foreign layers': documentOf(manifest([entry(`${DOCKER}.image.rootfs.foreign.diff.tar.gzip`)])),
  'OCI non-distributable layers': documentOf(manifest([entry(`${OCI}.layer.nondistributable.v1.tar+zstd`)])),
  'layers with URLs': documentOf(manifest([{ ...layer, urls: ['https://elsewhere.example.com/layer'] }])),
  'encrypted layers': documentOf(manifest([entry(`${OCI}.layer.v1.tar+gzip+encrypted`)])),
  'unknown layers': documentOf(manifest([entry('application/vnd.example.layer')])),
  'layers named like properties of objects': documentOf(manifest([entry('constructor')])),
  'digests other than sha256': documentOf(manifest([{ ...layer, digest: `sha512:${'a'.repeat(128)}` }])),
};

for (const [name, document] of Object.entries(HANDED_OVER))
  test(`parseTarget() leaves ${name} to containerd`, () => {
    fails(ErrorCode.Unsupported, () => parseTarget(document));
  });

const INVALID: Readonly<Record<string, RawDocument>> = {
  'what is not JSON': documentOf('{"schemaVersion": 2,'),
  'bytes that are not UTF-8': { ...documentOf('x'), bytes: Uint8Array.of(0x22, 0xff, 0x22) },
  'a JSON array': documentOf([]),
  'no schema version': documentOf({ ...manifest([layer]), schemaVersion: undefined }),
  'no layers': documentOf({ ...manifest([layer]), layers: undefined }),
  'no config': documentOf({ ...manifest([layer]), config: null }),
  'a negative size': documentOf(manifest([{ ...layer, size: -1 }])),
  'a fractional size': documentOf(manifest([{ ...layer, size: 1.5 }])),
  'a size beyond 2^53': documentOf(manifest([{ ...layer, size: 2 ** 60 }])),
  'a size in words': documentOf(manifest([{ ...layer, size: '10' }])),
  'a short digest': documentOf(manifest([{ ...layer, digest: 'sha256:abc' }])),
  'a digest with a path in it': documentOf(manifest([{ ...layer, digest: 'sha256:../../etc/passwd' }])),
  'no media type of a layer': documentOf(manifest([{ ...layer, mediaType: undefined }])),
  'another media type than announced': documentOf(manifest([layer], { mediaType: INDEX })),
  'a manifest that is an index as well': documentOf(manifest([layer], { manifests: [] })),
  'an index that is a manifest as well': documentOf({ schemaVersion: 2, manifests: [], layers: [] }, INDEX),
};

for (const [name, document] of Object.entries(INVALID))
  test(`parseTarget() refuses ${name}`, () => {
    fails(ErrorCode.ManifestInvalid, () => parseTarget(document));
  });

test('parseTarget() refuses a manifest with 10,000 layers', () => {
  const many = manifest(Array.from({ length: 10_000 }, () => layer));
  fails(ErrorCode.LimitExceeded, () => parseTarget(documentOf(many)), /10000 layers/);
  const most = manifest(Array.from({ length: LAYERS_MAX }, () => layer));
  assert.is(parseManifest(documentOf(most)).layers.length, LAYERS_MAX);
});

test('parseTarget() refuses too many index entries, a config that is too big, and a manifest over 4 MiB', () => {
  const manifests = Array.from({ length: INDEX_ENTRIES_MAX + 1 }, () => entry(MANIFEST));
  fails(ErrorCode.LimitExceeded, () => parseTarget(documentOf({ schemaVersion: 2, manifests }, INDEX)));
  const config = entry(`${OCI}.config.v1+json`, { size: 4 * 1024 * 1024 + 1 });
  fails(ErrorCode.LimitExceeded, () => parseTarget(documentOf(manifest([layer], { config }))));
  fails(ErrorCode.LimitExceeded, () => parseTarget(documentOf(' '.repeat(MANIFEST_BYTES_MAX + 1))));
});

test('parseManifest() leaves an index inside an index to containerd', () => {
  fails(ErrorCode.Unsupported, () => parseManifest(documentOf({ schemaVersion: 2, manifests: [] }, INDEX)));
});

test('parseTarget() takes annotations named like properties of objects for what they are', () => {
  const text = JSON.stringify(manifest([layer])).replace(
    '"size":10}]',
    '"size":10,"annotations":{"__proto__":"x"}}]',
  );
  const [only] = parseManifest(documentOf(text)).layers;
  assert.equal(Object.entries(only?.descriptor.annotations ?? {}), [['__proto__', 'x']]);
});

const on = (architecture: string, variant?: string) => ({ platform: { os: 'linux', architecture, variant } });

function indexOf(...manifests: readonly object[]) {
  const target = parseTarget(documentOf({ schemaVersion: 2, manifests }, INDEX));
  if (target.kind !== 'index') throw new Error('not an index');
  return target;
}

test('chooseManifest() prefers the closest platform wherever it stands, and never attestations', () => {
  const attestation = entry(MANIFEST, {
    digest: digestOf('att'),
    platform: { os: 'unknown', architecture: 'unknown' },
  });
  const named = (name: string, fields: object) => entry(MANIFEST, { digest: digestOf(name), ...fields });
  const index = indexOf(
    attestation,
    named('v6', on('arm', 'v6')),
    named('v7', on('arm', 'v7')),
    named('amd64', on('amd64')),
  );
  const choose = (architecture: string, variant: string) =>
    chooseManifest(index, { os: 'linux', architecture, variant }).digest;
  assert.is(choose('amd64', ''), digestOf('amd64'));
  assert.is(choose('arm', 'v7'), digestOf('v7'));
  assert.is(choose('arm', 'v6'), digestOf('v6'));
  assert.is(choose('arm64', 'v8'), digestOf('v7'));
  fails(ErrorCode.NotFound, () => choose('riscv64', ''));
});

test('chooseManifest() takes an entry without platform only when no other fits, and of equals the first', () => {
  const bare = entry(MANIFEST, { digest: digestOf('bare') });
  const first = entry(MANIFEST, { digest: digestOf('first'), ...on('amd64') });
  const second = entry(MANIFEST, { digest: digestOf('second'), ...on('amd64') });
  const amd64 = { os: 'linux', architecture: 'amd64' };
  assert.is(chooseManifest(indexOf(bare, first, second), amd64).digest, digestOf('first'));
  assert.is(chooseManifest(indexOf(bare), amd64).digest, digestOf('bare'));
});

test('parseImageConfig() reads platform and diff IDs', () => {
  const diffIds = [digestOf('a'), digestOf('b')];
  const config = {
    os: 'linux',
    architecture: 'arm64',
    variant: 'v8',
    rootfs: { type: 'layers', diff_ids: diffIds },
  };
  assert.equal(parseImageConfig(documentOf(config), 2), {
    platform: { os: 'linux', architecture: 'arm64', variant: 'v8' },
    diffIds,
  });
  fails(
    ErrorCode.ManifestInvalid,
    () => parseImageConfig(documentOf(config), 1),
    /2 diff IDs found, 1 wanted/,
  );
});

const BAD_CONFIGS = {
  'without rootfs': { os: 'linux', architecture: 'amd64' },
  'with another rootfs type': { os: 'linux', architecture: 'amd64', rootfs: { type: 'x', diff_ids: [] } },
  'without platform': { rootfs: { type: 'layers', diff_ids: [] } },
  'with a malformed diff ID': {
    os: 'linux',
    architecture: 'amd64',
    rootfs: { type: 'layers', diff_ids: ['sha256:x'] },
  },
};

for (const [name, config] of Object.entries(BAD_CONFIGS))
  test(`parseImageConfig() refuses a config ${name}`, () => {
    fails(ErrorCode.ManifestInvalid, () => parseImageConfig(documentOf(config), 0));
  });

test.run();
