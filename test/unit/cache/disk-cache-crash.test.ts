import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, isShoalError } from '../../../shim/base/errors.ts';
import type { DiskCache } from '../../../shim/cache/disk-cache.ts';
import {
  CRASH_BLOB_BYTES,
  CRASH_CHUNK_BYTES,
  crashChunk,
  crashKey,
  openCrashCache,
} from '../../support/cache-writer.ts';

const WRITER = new URL('../../support/cache-writer.ts', import.meta.url).pathname;
const KILLS = 12;
/** Blobs of the writer. */
const BLOBS = 6;

/** Every chunk that the cache claims has the right bytes, or is given up with CacheCorrupt. Gives how many were right. */
async function checkEveryClaim(cache: DiskCache): Promise<{ right: number; corrupt: number }> {
  const buffer = Buffer.alloc(CRASH_CHUNK_BYTES);
  let right = 0;
  let corrupt = 0;
  for (let index = 0; index < BLOBS; index++) {
    const blob = cache.get(crashKey(index));
    for (let chunk = 0; chunk < (blob?.chunkCount ?? 0); chunk++) {
      if (blob?.hashOf(chunk) === undefined) continue;
      try {
        const length = await blob.readChunk(chunk, buffer);
        assert.ok(buffer.subarray(0, length).equals(crashChunk(index, chunk)), 'wrong bytes were served');
        right += 1;
      } catch (error) {
        if (!isShoalError(error, ErrorCode.CacheCorrupt)) throw error;
        assert.is(blob.hashOf(chunk), undefined);
        corrupt += 1;
      }
    }
  }
  return { right, corrupt };
}

function filesIn(directory: string, extension: string): string[] {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  return names.filter((name) => name.endsWith(extension)).map((name) => join(directory, name));
}

async function writeAndKill(directory: string, afterMs: number): Promise<void> {
  const child = spawn(process.execPath, [WRITER, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  setTimeout(() => child.kill('SIGKILL'), afterMs);
  await once(child, 'exit');
}

test('a cache that was killed at any point serves nothing that does not verify', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-crash-'));
  try {
    let right = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      await writeAndKill(directory, Math.random() * 60);
      const cache = await openCrashCache(directory);
      assert.ok(cache.ownBytes <= 4 * CRASH_BLOB_BYTES, 'more is kept than the capacity');
      const found = await checkEveryClaim(cache);
      assert.is(found.corrupt, 0, 'a chunk was recorded before its bytes were written');
      right += found.right;
      assert.is(filesIn(directory, '.blob').length, [...cache.blobs()].length);
      await cache.close();
    }
    assert.ok(right > KILLS, `only ${right} chunks survived ${KILLS} kills`);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('damaged files of a cache cost chunks and never give wrong bytes', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-damage-'));
  try {
    let corrupt = 0;
    for (let round = 0; round < 4; round++) {
      await writeAndKill(directory, 40);
      for (const path of filesIn(directory, '.blob')) scribble(path);
      for (const path of filesIn(directory, '.meta')) tear(path, round);
      const cache = await openCrashCache(directory);
      corrupt += (await checkEveryClaim(cache)).corrupt;
      await cache.close();
    }
    assert.ok(corrupt > 0, 'no damage was noticed');
  } finally {
    rmSync(directory, { recursive: true });
  }
});

function scribble(path: string): void {
  const bytes = readFileSync(path);
  for (let count = 0; count < 5; count++) {
    const at = Math.floor(Math.random() * bytes.length);
    bytes[at] = (bytes[at] ?? 0) ^ 0x55;
  }
  writeFileSync(path, bytes);
}

function tear(path: string, round: number): void {
  const size = statSync(path).size;
  if (round % 2 === 0) truncateSync(path, Math.floor(Math.random() * size));
}

test.run();
