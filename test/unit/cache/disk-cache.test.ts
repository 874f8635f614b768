import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, linkSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Digest, digestFromHex, digestOf } from '../../../shim/base/digest.ts';
import { ErrorCode, isShoalError } from '../../../shim/base/errors.ts';
import { DISK_FAILURE_PAUSE_MS, DiskCache, type DiskCacheOptions } from '../../../shim/cache/disk-cache.ts';
import { IN_DEMAND_MS } from '../../../shim/cache/eviction.ts';
import { fill, keyOf, put } from '../../support/cached-blobs.ts';

const CHUNK_BYTES = 4096;
const BLOB_BYTES = 3 * CHUNK_BYTES;

async function withCache(
  options: Partial<DiskCacheOptions>,
  body: (cache: DiskCache, directory: string) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-cache-'));
  const cache = await DiskCache.open({ directory, chunkSizeBytes: CHUNK_BYTES, ...options });
  try {
    await body(cache, directory);
  } finally {
    await cache.close();
    rmSync(directory, { recursive: true });
  }
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'none',
    (error) => (isShoalError(error) ? error.code : String(error)),
  );
}

test('a blob of one chunk is proven by the hash of that, and only by the hash of bytes that were seen', async () => {
  await withCache({}, async (cache) => {
    const bytes = Buffer.alloc(100, 'x');
    const hash = createHash('sha256').update(bytes).digest();
    const digest = digestFromHex(hash.toString('hex'));
    const proven = async (name: Digest, sizeBytes: number, given: Uint8Array): Promise<boolean> => {
      const blob = await cache.pin({ host: 'registry.test', digest: name }, sizeBytes);
      assert.not(blob.isProven);
      await blob.claim(0, given);
      const { isProven } = blob;
      await cache.unpin(blob);
      return isProven;
    };
    assert.ok(await proven(digest, bytes.length, hash));
    assert.not(await proven(digestOf('another'), bytes.length, hash));
    assert.not(
      await proven(digestOf('longer'), CHUNK_BYTES + 1, createHash('sha256').update('longer').digest()),
    );
  });
});

test('a proof is not taken from the disk', async () => {
  await withCache({}, async (cache, directory) => {
    const bytes = Buffer.alloc(100, 'x');
    const hash = createHash('sha256').update(bytes).digest();
    const key = { host: 'registry.test', digest: digestFromHex(hash.toString('hex')) };
    const blob = await cache.pin(key, bytes.length);
    await blob.write(0, [bytes]);
    await blob.claim(0, hash);
    await cache.unpin(blob);
    await cache.close();
    const again = await DiskCache.open({ directory, chunkSizeBytes: CHUNK_BYTES });
    const claimed = await again.pin(key, bytes.length);
    assert.not(claimed.isProven);
    await claimed.readChunk(0, Buffer.alloc(CHUNK_BYTES));
    assert.ok(claimed.isProven);
    await again.close();
  });
});

test('unpin() drops the least recently used idle blobs above the capacity', async () => {
  let nowMs = 1000;
  await withCache({ capacityBytes: 2 * BLOB_BYTES, now: () => nowMs }, async (cache) => {
    const dropped: string[] = [];
    cache.onDrop((key) => dropped.push(key.digest));
    for (const name of ['a', 'b']) {
      nowMs += 1;
      await put(cache, name, BLOB_BYTES);
    }
    nowMs += 1;
    await cache.unpin(await cache.pin(keyOf('a'), BLOB_BYTES));
    nowMs += 1;
    await put(cache, 'c', BLOB_BYTES);
    assert.equal(dropped, [keyOf('b').digest]);
    assert.is(cache.ownBytes, 2 * BLOB_BYTES);
  });
});

test('pin() protects a blob from eviction, and live blobs may exceed the capacity', async () => {
  await withCache({ capacityBytes: 0 }, async (cache) => {
    const blob = await cache.pin(keyOf('live'), BLOB_BYTES);
    await fill(blob);
    await put(cache, 'other', BLOB_BYTES);
    assert.is(cache.get(keyOf('live')), blob);
    assert.is(cache.get(keyOf('other')), undefined);
    await cache.unpin(blob);
    assert.is(cache.get(keyOf('live')), undefined);
    assert.not(existsSync(blob.path));
  });
});

test('a blob that peers have chunks of stays beyond the capacity, until nobody asks any more', async () => {
  let nowMs = 1000;
  await withCache({ capacityBytes: BLOB_BYTES, now: () => nowMs }, async (cache) => {
    const served = await put(cache, 'served', BLOB_BYTES);
    cache.noteServed(served);
    nowMs += 1;
    const other = await put(cache, 'other', BLOB_BYTES);
    assert.equal([served.dropped, other.dropped], [false, true], 'the idle one goes, though it is newer');
    nowMs += 1;
    const second = await cache.pin(keyOf('second'), BLOB_BYTES);
    await fill(second);
    cache.noteServed(second);
    await cache.unpin(second);
    assert.equal([served.dropped, second.dropped], [false, false]);
    const third = await cache.pin(keyOf('third'), BLOB_BYTES);
    await fill(third);
    nowMs += 1;
    cache.noteServed(third);
    await cache.unpin(third);
    assert.equal([served.dropped, second.dropped, third.dropped], [true, false, false]);
    nowMs += IN_DEMAND_MS;
    await put(cache, 'last', BLOB_BYTES);
    assert.is(cache.ownBytes, BLOB_BYTES);
    assert.is(cache.evictedBytes.capacity, 4 * BLOB_BYTES);
  });
});

test('one digest of two hosts is two blobs', async () => {
  await withCache({}, async (cache) => {
    await put(cache, 'layer', BLOB_BYTES);
    const other = await cache.pin(keyOf('layer', 'attacker.test'), BLOB_BYTES);
    assert.is(other.heldBytes, 0);
    await cache.unpin(other);
  });
});

test('adopt() unlinks the own name when the last pull ends and frees nothing of the other file', async () => {
  await withCache({}, async (cache, directory) => {
    const blob = await cache.pin(keyOf('layer'), BLOB_BYTES);
    await fill(blob);
    await blob.confirm();
    const own = blob.path;
    const other = join(directory, 'other');
    linkSync(own, other);
    await cache.adopt(blob.key, other, BLOB_BYTES);
    assert.ok(existsSync(own), 'a live pull may still open the name it knows');
    await cache.unpin(blob);
    assert.not(existsSync(own));
    assert.is(statSync(other).nlink, 1);
    assert.is(cache.ownBytes, 0);
    assert.is(await blob.readChunk(2, Buffer.alloc(CHUNK_BYTES)), CHUNK_BYTES);
    const again = await DiskCache.open({ directory, chunkSizeBytes: CHUNK_BYTES });
    assert.is(again.get(blob.key)?.path, other);
    await again.close();
    rmSync(other);
    assert.is(await codeOf(blob.readChunk(1, Buffer.alloc(CHUNK_BYTES))), ErrorCode.CacheCorrupt);
    const afterwards = await DiskCache.open({ directory, chunkSizeBytes: CHUNK_BYTES });
    assert.is(afterwards.get(blob.key), undefined);
    await afterwards.close();
  });
});

test('a file that somebody else has linked is never written to, whatever is missing from it', async () => {
  await withCache({}, async (cache, directory) => {
    const blob = await cache.pin(keyOf('layer'), BLOB_BYTES);
    await fill(blob);
    const other = join(directory, 'other');
    linkSync(blob.path, other);
    const before = readFileSync(other);
    await blob.unclaim(1);
    await cache.unpin(blob);
    const again = await DiskCache.open({ directory, chunkSizeBytes: CHUNK_BYTES });
    const fresh = await again.pin(keyOf('layer'), BLOB_BYTES);
    await fill(fresh);
    assert.ok(readFileSync(other).equals(before));
    await again.unpin(fresh);
    await again.close();
  });
});

test('open() removes data without sidecar and sidecars without data', async () => {
  await withCache({}, async (cache, directory) => {
    const first = await put(cache, 'a', BLOB_BYTES);
    const second = await put(cache, 'b', BLOB_BYTES);
    rmSync(first.paths.meta);
    rmSync(second.paths.data);
    const again = await DiskCache.open({ directory, chunkSizeBytes: CHUNK_BYTES });
    assert.is([...again.blobs()].length, 0);
    const left = readdirSync(directory, { recursive: true, encoding: 'utf8' });
    assert.equal(
      left.filter((name) => /\.(blob|meta)$/.test(name)),
      [],
    );
    await again.close();
  });
});

const fullDisk = process.getuid?.() === 0 ? test : test.skip;
fullDisk('a full disk is CacheUnavailable, makes room, and stops caching for a while', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-full-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', directory]);
  let nowMs = 0;
  try {
    const cache = await DiskCache.open({ directory, chunkSizeBytes: CHUNK_BYTES, now: () => nowMs });
    const idle = await put(cache, 'idle', BLOB_BYTES);
    const large = await cache.pin(keyOf('large'), 200 * CHUNK_BYTES);
    const failure = await fill(large).catch((error) => error);
    assert.is(failure.code, ErrorCode.CacheUnavailable);
    cache.noteFailure(failure);
    await cache.unpin(large);
    assert.is(await codeOf(cache.pin(keyOf('next'), 10)), ErrorCode.CacheUnavailable);
    assert.ok(idle.dropped);
    nowMs += DISK_FAILURE_PAUSE_MS;
    assert.ok(large.dropped);
    await put(cache, 'next', BLOB_BYTES);
    await cache.close();
  } finally {
    execFileSync('umount', [directory]);
    rmSync(directory, { recursive: true });
  }
});

test.run();
