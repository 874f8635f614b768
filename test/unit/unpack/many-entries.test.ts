// time limit: 120 s
import { createHash } from 'node:crypto';
import { createWriteStream, mkdirSync, mkdtempSync, rmSync, statfsSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { digestFromHex } from '../../../shim/base/digest.ts';
import { createUnpackPool } from '../../../shim/unpack/create-unpack-pool.ts';
import { archive } from './tar-builder.ts';

/**
 * `ENTRIES=10000000` takes minutes, and a file system with as many inodes, such as a tmpfs (1 kB of memory for each):
 * `mount -t tmpfs -o size=14g,nr_inodes=12m tmpfs DIRECTORY`, and `DIRECTORY=…`.
 */
const ENTRIES = Number(process.env.ENTRIES ?? 100_000);
const ENTRIES_PER_DIRECTORY = 1000;
const END_OF_ARCHIVE_BYTES = 1024;
/** Whatever a layer holds: what unpacking keeps in memory does not grow with the number of its files. */
const RSS_BYTES_MAX = 400_000_000;

test(`unpacking ${ENTRIES} entries takes bounded memory`, async () => {
  const root = mkdtempSync(join(process.env.DIRECTORY ?? diskInMemory() ?? tmpdir(), 'shoal-many-'));
  const pool = createUnpackPool({ workersMax: 1 });
  let rssBytes = 0;
  const timer = setInterval(() => {
    rssBytes = Math.max(rssBytes, process.memoryUsage.rss());
  }, 50);
  try {
    const job = await writeLayer(root);
    const startMs = performance.now();
    const run = pool.start(job, new AbortController().signal);
    run.advance(job.sizeBytes);
    const { entries } = await run.result;
    const seconds = (performance.now() - startMs) / 1000;
    process.stdout.write(`${seconds.toFixed(1)} s, at most ${Math.round(rssBytes / 1e6)} MB\n`);
    assert.is(entries, ENTRIES + Math.ceil(ENTRIES / ENTRIES_PER_DIRECTORY));
    assert.ok(rssBytes > 0 && rssBytes < RSS_BYTES_MAX, `${rssBytes} bytes`);
  } finally {
    clearInterval(timer);
    await pool.close();
    rmSync(root, { recursive: true, force: true });
  }
});

test.run();

/** The test is about memory of this process, not about how a disk takes many files; and a tmpfs counts inodes, too. */
function diskInMemory(): string | undefined {
  try {
    return statfsSync('/dev/shm').ffree > 2 * ENTRIES ? '/dev/shm' : undefined;
  } catch {
    return undefined;
  }
}

async function writeLayer(root: string) {
  const [diff, blob] = [createHash('sha256'), createHash('sha256')];
  const sourcePath = join(root, 'layer');
  const targetDirectory = join(root, 'tree');
  mkdirSync(targetDirectory, { mode: 0o700 });
  await pipeline(
    Readable.from(tarChunks()),
    tap(diff),
    createGzip({ level: 1, chunkSize: 1 << 20 }),
    tap(blob),
    createWriteStream(sourcePath),
  );
  return {
    sourcePath,
    targetDirectory,
    sizeBytes: statSync(sourcePath).size,
    digest: digestFromHex(blob.digest('hex')),
    diffId: digestFromHex(diff.digest('hex')),
    compression: 'gzip',
    // Layer 0 is merged, and what it wrote is remembered: the most memory.
    mode: 'merge',
    privileged: false,
    unpackedBytesMax: Number.MAX_SAFE_INTEGER,
  } as const;
}

function* tarChunks(): Generator<Buffer> {
  for (let first = 0; first < ENTRIES; first += ENTRIES_PER_DIRECTORY) {
    const directory = `d${first}/`;
    const count = Math.min(ENTRIES_PER_DIRECTORY, ENTRIES - first);
    const files = Array.from({ length: count }, (_, index) => ({ name: `${directory}f${index}` }));
    const tar = archive({ name: directory, type: '5', mode: 0o755 }, ...files);
    yield tar.subarray(0, tar.length - END_OF_ARCHIVE_BYTES);
  }
  yield Buffer.alloc(END_OF_ARCHIVE_BYTES);
}

function tap(hash: ReturnType<typeof createHash>): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, callback) {
      hash.update(chunk);
      callback(null, chunk);
    },
  });
}
