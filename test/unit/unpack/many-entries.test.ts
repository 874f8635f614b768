// time limit: 180 s
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  createReadStream,
  createWriteStream,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { digestFromHex } from '../../../shim/base/digest.ts';
import { createUnpackPool } from '../../../shim/unpack/create-unpack-pool.ts';
import { buildGoUntar } from '../../support/go-untar/build.ts';
import { compareInStep } from './compare-in-step.ts';
import { manyEntriesTar } from './many-entries-layer.ts';

/**
 * `ENTRIES=10000000` takes half an hour, and a file system with as many inodes, such as a tmpfs (1 kB of memory for each, 12 GB for both
 * trees): `mount -t tmpfs -o size=16g,nr_inodes=24m tmpfs DIRECTORY`, and `DIRECTORY=…`.
 */
const ENTRIES = Number(process.env.ENTRIES ?? 100_000);
/** Layer 0 is merged, and what it wrote is remembered: the most memory. */
const MODE = process.env.MODE === 'overlay' ? 'overlay' : 'merge';
/** Whatever a layer holds: what unpacking keeps in memory does not grow with the number of its files. */
const RSS_BYTES_MAX = 450_000_000;
/** At the end, of all entries: less, and names were not compared. */
const PATHS_SHARE_MIN = 0.6;

const test = suite(`unpack ${ENTRIES} entries`);
const isRoot = process.getuid?.() === 0;
const root = mkdtempSync(join(process.env.DIRECTORY ?? diskInMemory() ?? tmpdir(), 'shoal-many-'));
const ours = join(root, 'ours');
const layerFile = join(root, 'layer');
test.after(() => rmSync(root, { recursive: true, force: true }));

test('in bounded memory', async () => {
  const job = await writeLayer();
  mkdirSync(ours, { mode: 0o700 });
  const pool = createUnpackPool({ workersMax: 1 });
  let rssBytes = 0;
  const timer = setInterval(() => {
    rssBytes = Math.max(rssBytes, process.memoryUsage.rss());
  }, 50);
  try {
    const startMs = performance.now();
    const run = pool.start(job, new AbortController().signal);
    run.advance(job.sizeBytes);
    const { entries } = await run.result;
    tell(`unpacked in ${secondsSince(startMs)} s, at most ${Math.round(rssBytes / 1e6)} MB`);
    assert.is(entries, ENTRIES);
    assert.ok(rssBytes > 0 && rssBytes < RSS_BYTES_MAX, `${rssBytes} bytes`);
  } finally {
    clearInterval(timer);
    await pool.close();
  }
});

const oracle = buildGoUntar(root);
if ('reason' in oracle) {
  console.log(`SKIP many entries like containerd: ${oracle.reason}`);
  test.skip('into the tree that containerd makes', () => {});
} else
  test('into the tree that containerd makes', async () => {
    const theirs = join(root, 'theirs');
    mkdirSync(theirs, { mode: 0o700 });
    await untarTheirs(oracle.program, theirs);
    const startMs = performance.now();
    const { paths, differences, examples } = compareInStep(ours, theirs);
    tell(`compared ${paths} paths in ${secondsSince(startMs)} s: ${differences} differences`);
    assert.equal([differences, ...examples], [0]);
    assert.ok(paths > ENTRIES * PATHS_SHARE_MIN, `${paths} paths`);
  });

test.run();

/** The test is about memory of this process, not about how a disk takes many files; and a tmpfs counts inodes, too. */
function diskInMemory(): string | undefined {
  try {
    return statfsSync('/dev/shm').ffree > 3 * ENTRIES ? '/dev/shm' : undefined;
  } catch {
    return undefined;
  }
}

async function writeLayer() {
  const [diff, blob] = [createHash('sha256'), createHash('sha256')];
  await pipeline(
    Readable.from(manyEntriesTar(ENTRIES, MODE)),
    tap(diff),
    createGzip({ level: 1, chunkSize: 1 << 20 }),
    tap(blob),
    createWriteStream(layerFile),
  );
  return {
    sourcePath: layerFile,
    targetDirectory: ours,
    sizeBytes: statSync(layerFile).size,
    digest: digestFromHex(blob.digest('hex')),
    diffId: digestFromHex(diff.digest('hex')),
    compression: 'gzip',
    mode: MODE,
    privileged: isRoot,
    unpackedBytesMax: Number.MAX_SAFE_INTEGER,
  } as const;
}

async function untarTheirs(program: string, directory: string): Promise<void> {
  const startMs = performance.now();
  const untar = spawn(program, [MODE, directory], { stdio: ['pipe', 'ignore', 'pipe'] });
  const [[status], errors] = await Promise.all([
    once(untar, 'close'),
    text(untar.stderr),
    // What it does not read is told by its status.
    pipeline(createReadStream(layerFile), createGunzip(), untar.stdin).catch(() => undefined),
  ]);
  assert.is(status, 0, errors);
  tell(`containerd's package: ${secondsSince(startMs)} s`);
}

function tap(hash: ReturnType<typeof createHash>): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, callback) {
      hash.update(chunk);
      callback(null, chunk);
    },
  });
}

function tell(line: string): void {
  process.stdout.write(`${line}\n`);
}

function secondsSince(startMs: number): string {
  return ((performance.now() - startMs) / 1000).toFixed(1);
}
