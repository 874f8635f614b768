// time limit: 120 s
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import * as zlib from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Compression } from '../../../shim/base/descriptor.ts';
import { digestOf } from '../../../shim/base/digest.ts';
import { createUnpackPool } from '../../../shim/unpack/create-unpack-pool.ts';
import { type ZstdBackend, zstdBackend } from '../../../shim/unpack/inflate.ts';
import type { UnpackJob, UnpackRun } from '../../../shim/unpack/unpack-pool.ts';
import { archive, type EntryFields } from './tar-builder.ts';
import { assertFiles, failure, makeJobs, startWhole, tar } from './unpack-jobs.ts';

const test = suite('unpack pool');
const isRoot = process.getuid?.() === 0;
const never = new AbortController().signal;
const pool = createUnpackPool({ workersMax: 2 });
const { directory, jobFor, remove } = makeJobs();
const startAll = (job: UnpackJob, signal?: AbortSignal): UnpackRun => startWhole(pool, job, signal);
test.after(async () => {
  await pool.close();
  remove();
});

/** The whole in two parts of the codec's own units, cut inside a file. */
function inParts(compress: (bytes: Buffer) => Buffer): Buffer {
  return Buffer.concat([compress(tar.subarray(0, 1_000_001)), compress(tar.subarray(1_000_001))]);
}

const skippable = Buffer.concat([Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 6, 0, 0, 0]), Buffer.from('ignore')]);
const layers: Record<string, { layer: Buffer; compression: Compression }> = {
  gzip: { layer: zlib.gzipSync(tar), compression: 'gzip' },
  'stored gzip': { layer: zlib.gzipSync(tar, { level: 0 }), compression: 'gzip' },
  'gzip of two members': { layer: inParts(zlib.gzipSync), compression: 'gzip' },
  'gzip with zeros behind': {
    layer: Buffer.concat([zlib.gzipSync(tar), Buffer.alloc(200_000)]),
    compression: 'gzip',
  },
  'plain tar': { layer: tar, compression: 'none' },
  'plain tar that is called gzip': { layer: tar, compression: 'gzip' },
};
const zstdLayers: Record<string, Buffer> = {
  zstd: zlib.zstdCompressSync(tar),
  'zstd of two frames': inParts(zlib.zstdCompressSync),
  'zstd with skippable frames': Buffer.concat([skippable, inParts(zlib.zstdCompressSync), skippable]),
};

for (const [name, { layer, compression }] of Object.entries(layers))
  test(`start() unpacks ${name}`, async () => {
    const job = jobFor({ layer, tar, compression });
    const { impliedDirectories, ...counts } = await startAll(job).result;
    assert.equal(impliedDirectories, ['a']);
    const diffId = digestOf(tar);
    assert.equal(counts, { diffId, unpackedBytes: 3_000_005, tarBytes: tar.length, entries: 3 });
    assertFiles(job.targetDirectory);
  });

test('start() tells the diff ID of a tar that nobody knows yet', async () => {
  const job = { ...jobFor({ layer: zlib.gzipSync(tar), tar, compression: 'gzip' }), diffId: undefined };
  assert.is((await startAll(job).result).diffId, digestOf(tar));
  assertFiles(job.targetDirectory);
});

const zstdBackends: ZstdBackend[] = zstdBackend() === 'zstd-napi' ? ['zstd-napi', 'node'] : ['node'];
if (zstdBackends.length === 1) console.log('SKIP zstd-napi: it was not built, which takes a C++ compiler');

for (const zstd of zstdBackends)
  test(`start() unpacks zstd with ${zstd}, one frame or many, and refuses damaged ones`, async () => {
    const own = createUnpackPool({ workersMax: 1, zstd });
    try {
      for (const [name, layer] of Object.entries(zstdLayers)) {
        const job = jobFor({ layer, tar, compression: 'zstd' });
        const run = own.start(job, never);
        run.advance(job.sizeBytes);
        assert.is((await run.result).entries, 3, name);
        assertFiles(job.targetDirectory);
      }
      for (const damaged of [
        zlib.zstdCompressSync(tar).subarray(0, -3),
        Buffer.concat([zlib.zstdCompressSync(tar), Buffer.from('rest')]),
      ]) {
        const job = jobFor({ layer: damaged, tar, compression: 'zstd' });
        const run = own.start(job, never);
        run.advance(job.sizeBytes);
        await failure(run.result, 'UNPACK_INVALID');
      }
    } finally {
      await own.close();
    }
  });

test('start() refuses gzip that is cut off, and bytes behind it that are no member', async () => {
  const layer = zlib.gzipSync(tar);
  await failure(startAll(jobFor({ layer: layer.subarray(0, -5), tar })).result, 'UNPACK_INVALID');
  await failure(
    startAll(jobFor({ layer: Buffer.concat([layer, Buffer.from('rest')]), tar })).result,
    'UNPACK_INVALID',
  );
  await failure(
    startAll(jobFor({ layer: Buffer.concat([layer, Buffer.from('\0\0rest')]), tar })).result,
    'UNPACK_INVALID',
  );
});

test('start() tells which digest is wrong', async () => {
  const layer = zlib.gzipSync(tar);
  const wrong = digestOf('something else');
  const ofLayer = await failure(
    startAll(jobFor({ layer, tar }, { digest: wrong })).result,
    'DIGEST_MISMATCH',
  );
  assert.is(ofLayer.facts.which, 'layer');
  const ofDiff = await failure(startAll(jobFor({ layer, tar }, { diffId: wrong })).result, 'DIGEST_MISMATCH');
  assert.is(ofDiff.facts.which, 'diff');
  assert.is(ofDiff.facts.wanted, wrong);
});

test('start() calls a layer damaged on its way a wrong digest, not a malformed layer', async () => {
  const layer = zlib.gzipSync(tar);
  const damaged = Buffer.from(layer).fill(0xff, 5_000, 5_010);
  const error = await failure(
    startAll(jobFor({ layer: damaged, tar }, { digest: digestOf(layer) })).result,
    'DIGEST_MISMATCH',
  );
  assert.is(error.facts.which, 'layer');
});

test('start() leaves the digest of the blob to a caller who checks it, and still says what is wrong with a damaged one', async () => {
  const layer = zlib.gzipSync(tar);
  const left = { digest: digestOf('something else'), leavesDigest: true };
  assert.is((await startAll(jobFor({ layer, tar }, left)).result).diffId, digestOf(tar));
  const wrongDiff = { leavesDigest: true, diffId: digestOf('something else') };
  const ofDiff = await failure(startAll(jobFor({ layer, tar }, wrongDiff)).result, 'DIGEST_MISMATCH');
  assert.is(ofDiff.facts.which, 'diff');
  const damaged = Buffer.from(layer).fill(0xff, 5_000, 5_010);
  const job = jobFor({ layer: damaged, tar }, { digest: digestOf(layer), leavesDigest: true });
  assert.is((await failure(startAll(job).result, 'DIGEST_MISMATCH')).facts.which, 'layer');
});

test('start() refuses a file that is shorter or longer than its descriptor says', async () => {
  const layer = zlib.gzipSync(tar);
  await failure(startAll(jobFor({ layer, tar }, { sizeBytes: layer.length + 1 })).result, 'SIZE_MISMATCH');
  const longer = jobFor({ layer, tar });
  fs.appendFileSync(longer.sourcePath, 'x');
  await failure(startAll(longer).result, 'SIZE_MISMATCH');
});

test('verify mode checks both digests and writes nothing', async () => {
  const layer = zlib.gzipSync(tar);
  const job = jobFor({ layer, tar }, { mode: 'verify' });
  assert.is((await startAll(job).result).tarBytes, tar.length);
  assert.equal(fs.readdirSync(job.targetDirectory), []);
  await failure(
    startAll(jobFor({ layer, tar }, { mode: 'verify', diffId: job.digest })).result,
    'DIGEST_MISMATCH',
  );
});

test('a gzip bomb and a sparse claim are stopped by the limit', async () => {
  const bomb = archive({ name: 'a', data: Buffer.alloc(20_000_000) });
  const limits = { unpackedBytesMax: 1_000_000 };
  await failure(startAll(jobFor({ layer: zlib.gzipSync(bomb), tar: bomb }, limits)).result, 'LIMIT_EXCEEDED');
  const pax = {
    'GNU.sparse.major': '0',
    'GNU.sparse.minor': '1',
    'GNU.sparse.numblocks': '0',
    'GNU.sparse.realsize': '9223372036854775807',
  };
  const claim = archive({ name: 'a', pax });
  const job = jobFor({ layer: claim, tar: claim, compression: 'none' }, limits);
  await failure(startAll(job).result, 'LIMIT_EXCEEDED');
  assert.equal(fs.readdirSync(job.targetDirectory), []);
});

test('a failed system call is told with its path and code', async () => {
  const layer = zlib.gzipSync(archive({ name: 'f', data: '1' }, { name: 'f/x', data: '2' }));
  const error = await failure(startAll(jobFor({ layer, tar: layer })).result, 'UNPACK_FAILED');
  assert.equal(error.facts, { path: 'f/x', errno: 'ENOTDIR' });
  const missing = jobFor({ layer, tar: layer }, { sourcePath: path.join(directory, 'missing') });
  assert.is((await failure(startAll(missing).result, 'UNPACK_FAILED')).facts.errno, 'ENOENT');
});

test('an implied directory that a link replaced, or hides, is not told', async () => {
  const outside = path.join(directory, 'outside');
  fs.mkdirSync(path.join(outside, 'b'), { recursive: true });
  const layer = archive(
    { name: 'a/b/f', data: '1' },
    { name: 'kept/f', data: '2' },
    { name: 'a', type: '2', linkName: outside },
    { name: 'c/d/f', data: '3' },
    { name: 'c', data: '4' },
  );
  const job = jobFor({ layer, tar: layer, compression: 'none' });
  assert.equal((await startAll(job).result).impliedDirectories, ['kept']);
});

test('a full disk is told as such', async () => {
  const full = path.join(directory, 'full');
  fs.mkdirSync(full);
  if (!isRoot || spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', full]).status !== 0) {
    console.log('SKIP a full disk is told as such: needs root to mount a small file system');
    return;
  }
  try {
    const error = await failure(
      startAll(jobFor({ layer: zlib.gzipSync(tar), tar }, { targetDirectory: full })).result,
      'UNPACK_FAILED',
    );
    assert.equal(error.facts, { path: 'large', errno: 'ENOSPC' });
  } finally {
    spawnSync('umount', [full]);
  }
});

test('10,000 files in one layer, each with a directory of its own', async () => {
  const many = archive(
    ...Array.from({ length: 10_000 }, (_, i) => ({ name: `d${i % 500}/e${i}/f`, data: `${i}` })),
  );
  const base = process.memoryUsage().rss;
  const job = jobFor({ layer: zlib.gzipSync(many), tar: many }, { mode: 'merge' });
  const { impliedDirectories } = await startAll(job).result;
  assert.is(impliedDirectories.length, 10_500);
  assert.ok(process.memoryUsage().rss - base < 300_000_000);
});

test('without privileges owners and devices are left out, and sealed directories are still filled', async () => {
  const entries: EntryFields[] = [
    { name: 'sealed/', type: '5', mode: 0o555, uid: 77 },
    {
      name: 'sealed/f',
      data: '1',
      uid: 77,
      pax: { 'SCHILY.xattr.security.capability': 'x', 'SCHILY.xattr.user.a': 'y' },
    },
    { name: 'device', type: '3', deviceMajor: 1, deviceMinor: 3 },
  ];
  const layer = archive(...entries);
  const job = jobFor({ layer, tar: layer, compression: 'none' }, { privileged: false });
  await startAll(job).result;
  assert.equal(fs.readdirSync(job.targetDirectory), ['sealed']);
  const sealed = fs.statSync(path.join(job.targetDirectory, 'sealed'));
  assert.equal([sealed.mode & 0o777, sealed.uid], [0o555, process.getuid?.()]);
  assert.is(fs.readFileSync(path.join(job.targetDirectory, 'sealed/f'), 'utf8'), '1');
});

test.run();
