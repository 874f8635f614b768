import { createHash } from 'node:crypto';
import { digestFromHex } from '../../shim/base/digest.ts';
import { DiskCache } from '../../shim/cache/disk-cache.ts';

export const CRASH_CHUNK_BYTES = 64 * 1024;
export const CRASH_BLOB_BYTES = 20 * CRASH_CHUNK_BYTES + 777;
const CRASH_BLOBS = 6;

/** The bytes that chunk `chunk` of blob `index` has, whoever writes it. */
export function crashChunk(index: number, chunk: number): Buffer {
  const length = Math.min(CRASH_CHUNK_BYTES, CRASH_BLOB_BYTES - chunk * CRASH_CHUNK_BYTES);
  const seed = createHash('sha256').update(`${index}/${chunk}`).digest();
  return Buffer.alloc(length, seed);
}

export function crashKey(index: number) {
  const digest = digestFromHex(createHash('sha256').update(`blob ${index}`).digest('hex'));
  return { host: 'registry.test', digest };
}

export function openCrashCache(directory: string): Promise<DiskCache> {
  // Room for four of the six blobs: eviction is going on all the time.
  return DiskCache.open({
    directory,
    chunkSizeBytes: CRASH_CHUNK_BYTES,
    capacityBytes: 4 * CRASH_BLOB_BYTES,
  });
}

/** Fills, confirms and drops blobs until it is killed. */
async function writeForEver(directory: string): Promise<void> {
  const cache = await openCrashCache(directory);
  process.stdout.write('writing\n');
  for (let round = 0; ; round++) {
    const index = round % CRASH_BLOBS;
    const blob = await cache.pin(crashKey(index), CRASH_BLOB_BYTES);
    const chunks = [...Array(blob.chunkCount).keys()].filter((chunk) => blob.hashOf(chunk) === undefined);
    await Promise.all(
      chunks.map(async (chunk) => {
        const bytes = crashChunk(index, chunk);
        await blob.write(chunk * CRASH_CHUNK_BYTES, [bytes.subarray(0, 100), bytes.subarray(100)]);
        await blob.claim(chunk, createHash('sha256').update(bytes).digest());
      }),
    );
    if (round % 2 === 0) await blob.confirm();
    await cache.unpin(blob);
    if (round % 5 === 4) await cache.drop(blob);
  }
}

if (process.argv[1] === import.meta.filename) await writeForEver(process.argv[2] ?? '');
