// What the cache does on a small file system that others fill, too.
import { execFileSync } from 'node:child_process';
import { linkSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { DiskCache } from '../../../shim/cache/disk-cache.ts';
import type { RoomEvent } from '../../../shim/cache/room-keeper.ts';
import { fill, keyOf, put } from '../../support/cached-blobs.ts';

const DISK_BYTES = 4 * 1024 * 1024;
const PERCENT_BYTES = DISK_BYTES / 100;
const CHUNK_BYTES = 64 * 1024;
const BLOB_BYTES = 4 * CHUNK_BYTES;
const BLOB_PERCENT = BLOB_BYTES / PERCENT_BYTES;
const waterMarks = { highPercent: 80, lowPercent: 70 };

interface World {
  readonly cache: DiskCache;
  readonly directory: string;
  readonly events: RoomEvent[];
  /** Another program's file of so many percent of the disk takes the place of the last one. */
  fillTo(percent: number): void;
}

const test = suite('a small disk');
const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log('SKIP a small disk: needs root: file systems are mounted');
const onSmallDisk = isRoot ? test : test.skip;

async function withDisk(body: (world: World) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-room-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'tmpfs', directory]);
  const events: RoomEvent[] = [];
  try {
    const cache = await DiskCache.open({
      directory,
      chunkSizeBytes: CHUNK_BYTES,
      waterMarks,
      onRoom: (event) => events.push(event),
    });
    const fillTo = (percent: number): void => {
      rmSync(join(directory, 'other'), { force: true });
      const bytes = Math.floor(percent * PERCENT_BYTES) - usedBytes(directory);
      writeFileSync(join(directory, 'other'), Buffer.alloc(bytes));
    };
    await body({ cache, directory, events, fillTo });
    await cache.close();
  } finally {
    // Lazily: a failed test leaves files open.
    execFileSync('umount', ['--lazy', directory]);
    rmSync(directory, { recursive: true });
  }
}

const usedBytes = (directory: string): number => {
  const { blocks, bavail, bsize } = statfsSync(directory);
  return (blocks - bavail) * bsize;
};
const usedPercent = (directory: string): number => usedBytes(directory) / PERCENT_BYTES;

/** The end of any pull makes the cache look at its disk. */
async function settle(cache: DiskCache): Promise<void> {
  const blob = await cache.pin(keyOf('small'), 1);
  await fill(blob);
  await cache.unpin(blob);
}

async function until(isSo: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 5000;
  while (!isSo() && performance.now() < deadlineMs) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.ok(isSo());
}

onSmallDisk('idle blobs go down to low water when somebody else has filled the disk', async () => {
  await withDisk(async ({ cache, directory, events, fillTo }) => {
    const old = [await put(cache, 'a', BLOB_BYTES), await put(cache, 'b', BLOB_BYTES)];
    fillTo(79);
    const kept = await put(cache, 'kept', BLOB_BYTES);
    assert.equal(
      old.map((blob) => blob.dropped),
      [true, true],
      'one blob would have done for high water, two do for low water',
    );
    assert.not(kept.dropped);
    assert.ok(usedPercent(directory) < 79 - BLOB_PERCENT + 1, `${usedPercent(directory)} %`);
    assert.equal(events, [{ kind: 'evicted', reason: 'highWater', blobs: 2, bytes: 2 * BLOB_BYTES }]);
    assert.is(cache.evictedBytes.highWater, 2 * BLOB_BYTES);
  });
});

onSmallDisk('above high water for good, a pull goes on and its blob is not kept', async () => {
  await withDisk(async ({ cache, directory, events, fillTo }) => {
    fillTo(90);
    const blob = await cache.pin(keyOf('live'), BLOB_BYTES);
    await fill(blob);
    const read = await blob.readChunk(3, Buffer.alloc(CHUNK_BYTES));
    assert.is(read, CHUNK_BYTES);
    assert.not(blob.dropped);
    await cache.unpin(blob);
    assert.ok(blob.dropped);
    assert.ok(usedPercent(directory) < 91);
    assert.is(events.filter(({ kind }) => kind === 'full').length, 1);
    fillTo(10);
    assert.not((await put(cache, 'next', BLOB_BYTES)).dropped);
    assert.equal(
      events.filter(({ kind }) => kind === 'full').map((event) => 'isFull' in event && event.isFull),
      [true, false],
    );
  });
});

onSmallDisk('idle blobs give way while a live pull grows, not only at its end', async () => {
  await withDisk(async ({ cache, fillTo }) => {
    const idle = await put(cache, 'idle', BLOB_BYTES);
    fillTo(79);
    const live = await cache.pin(keyOf('live'), BLOB_BYTES);
    await fill(live);
    await until(() => idle.dropped);
    assert.not(live.dropped);
    await cache.unpin(live);
  });
});

onSmallDisk('a blob in demand goes last, and stays when the others suffice for high water', async () => {
  await withDisk(async ({ cache, events, fillTo }) => {
    const wanted = await put(cache, 'wanted', BLOB_BYTES);
    const idle = await put(cache, 'idle', BLOB_BYTES);
    cache.noteServed(wanted);
    fillTo(82);
    await settle(cache);
    assert.equal([idle.dropped, wanted.dropped], [true, false]);
    fillTo(90);
    await settle(cache);
    assert.ok(wanted.dropped, 'the disk comes before the swarm');
    assert.ok(events.every((event) => event.kind === 'full' || event.reason === 'highWater'));
  });
});

onSmallDisk('a file that has another name is kept: dropping it would free nothing', async () => {
  await withDisk(async ({ cache, directory, fillTo }) => {
    const linked = await put(cache, 'linked', BLOB_BYTES);
    linkSync(linked.path, join(directory, 'containerd'));
    const own = await put(cache, 'own', BLOB_BYTES);
    fillTo(82);
    await settle(cache);
    assert.equal([linked.dropped, own.dropped], [false, true]);
  });
});

onSmallDisk(
  'a disk that somebody else fills within a pull is CacheUnavailable; what was claimed reads back right',
  async () => {
    await withDisk(async ({ cache, directory, fillTo }) => {
      const blob = await cache.pin(keyOf('cut'), 2 * BLOB_BYTES);
      const failure = await fill(blob, (chunk) => chunk === 3 && fillTo(100)).catch((error) => error);
      assert.is(failure.code, 'CACHE_UNAVAILABLE');
      assert.is(blob.heldBytes, 3 * CHUNK_BYTES);
      for (let chunk = 0; chunk < 3; chunk++) await blob.readChunk(chunk, Buffer.alloc(CHUNK_BYTES));
      cache.noteFailure(failure);
      await cache.unpin(blob);
      assert.ok(blob.dropped);
      await until(() => usedPercent(directory) <= 100 - 3 * (CHUNK_BYTES / PERCENT_BYTES) + 1);
      assert.is((await cache.pin(keyOf('next'), 1).catch((error) => error)).code, 'CACHE_UNAVAILABLE');
      rmSync(join(directory, 'other'));
      const again = await DiskCache.open({ directory, chunkSizeBytes: CHUNK_BYTES, waterMarks });
      assert.is([...again.blobs()].length, 0);
      const fresh = await put(again, 'cut', BLOB_BYTES);
      for (let chunk = 0; chunk < fresh.chunkCount; chunk++)
        await fresh.readChunk(chunk, Buffer.alloc(CHUNK_BYTES));
      await again.close();
    });
  },
);

test.run();
