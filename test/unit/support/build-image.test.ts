import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type BuildOptions, buildImage } from '../../support/images/build-image.ts';
import { randomBytes, randomBytesFile } from '../../support/images/samples.ts';
import { makeTemporaryRoot } from '../../support/real/temporary-root.ts';

const sample: BuildOptions = {
  layers: [
    { entries: [{ name: 'a', content: 'first' }] },
    {
      entries: [
        {
          name: 'b',
          content: randomBytes(3_000_000, 'b'),
          mode: 0o4755,
          pax: { 'SCHILY.xattr.user.x': 'y' },
        },
      ],
    },
    { entries: [{ name: 'l', type: 'symlink', linkname: 'a' }] },
  ],
  compression: ['gzip', 'zstd', 'none'],
  indexed: true,
};

test('buildImage() gives equal digests for equal options', async () => {
  using one = await buildImage(sample);
  using two = await buildImage(sample);
  assert.equal(one.root, two.root);
  assert.is.not(one.directory, two.directory);
});

test('buildImage() writes blobs that have their digests, and diff IDs of the tar inside', async () => {
  using image = await buildImage(sample);
  for (const { digest, size } of [...image.blobs, ...image.manifests, image.root]) {
    const bytes = readFileSync(image.blobPath(digest));
    assert.equal([digestOf(bytes), bytes.length], [digest, size]);
  }
  const inflate = [gunzipSync, zstdDecompressSync, (bytes: Buffer) => bytes];
  const tars = image.layers.map((layer, index) =>
    inflate[index]?.(readFileSync(image.blobPath(layer.digest))),
  );
  assert.equal(
    tars.map((tar) => digestOf(tar ?? Buffer.alloc(0))),
    image.diffIds,
  );
});

test('buildImage() names Docker media types when asked', async () => {
  using image = await buildImage({ layers: [{ entries: [] }], mediaTypes: 'docker' });
  assert.is(image.root.mediaType, 'application/vnd.docker.distribution.manifest.v2+json');
  assert.is(image.layers[0]?.mediaType, 'application/vnd.docker.image.rootfs.diff.tar.gzip');
});

test('buildImage() packs a folder as tar would, owned by root', async () => {
  using root = makeTemporaryRoot('pack');
  mkdirSync(`${root.path}/in/sub`, { recursive: true });
  await randomBytesFile(`${root.path}/in/sub/large`, 2_500_000, 'large');
  writeFileSync(`${root.path}/in/small`, 'text', { mode: 0o640 });
  symlinkSync('small', `${root.path}/in/link`);
  const layers = [{ fromDirectory: `${root.path}/in`, prefix: 'data' }];
  using image = await buildImage({ layers, compression: 'none' });
  const archive = image.blobPath(image.layers[0]?.digest ?? '');
  const list = spawnSync('tar', ['-tf', archive], { encoding: 'utf8' }).stdout.trim().split('\n');
  assert.equal(list, ['data/link', 'data/small', 'data/sub/', 'data/sub/large']);
  const large = spawnSync('tar', ['-xOf', archive, 'data/sub/large'], { maxBuffer: 1 << 24 }).stdout;
  assert.is(digestOf(large), digestOf(randomBytes(2_500_000, 'large')));
});

test('randomBytesFile() gives the same bytes as randomBytes(), other ones for another seed', async () => {
  using root = makeTemporaryRoot('random');
  await randomBytesFile(`${root.path}/file`, 1_500_000, 'seed');
  const bytes = readFileSync(`${root.path}/file`);
  assert.ok(bytes.equals(randomBytes(1_500_000, 'seed')));
  assert.not(bytes.equals(randomBytes(1_500_000, 'other')));
});

test.run();

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
