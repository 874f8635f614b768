/**
 * Measures unpacking alone: layers made from this machine's /usr, from files to trees, against `gzip -dc | tar x` (and
 * `zstd -dc | tar x`) of the same layers in the same run, alternating.
 *
 *   unpack.ts        Environment: RUNS=3, CASE=NAME, FILESYSTEM=tmpfs|ext4 (ext4 on a fresh loop device needs root)
 *
 * One JSON line a case; seconds are medians, ratio is rival ÷ ours. `verifySeconds` is the same without writing.
 */
import { execFileSync, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Compression } from '../../shim/base/descriptor.ts';
import { type Digest, digestFromHex } from '../../shim/base/digest.ts';
import { createUnpackPool } from '../../shim/unpack/unpack-pool.ts';
import { median } from './median.ts';
import { type UsedMemory, useMemory } from './used-memory.ts';

interface Layer {
  readonly file: string;
  readonly sizeBytes: number;
  readonly compression: Compression;
  readonly digest: Digest;
  readonly diffId: Digest;
  readonly tarBytes: number;
}

interface UnpackCase {
  readonly name: string;
  /** A shell pipeline that writes each layer's tar; one a layer. */
  readonly tars: readonly string[];
  readonly compression: Exclude<Compression, 'none'>;
}

const CASES: readonly UnpackCase[] = [
  {
    name: 'many-files',
    tars: [tarOf('find usr/share usr/include usr/lib/python3* -xdev -type f -size -64k | head -n 60000')],
    compression: 'gzip',
  },
  {
    name: 'large-files',
    tars: [tarOf('find usr/bin usr/lib -xdev -type f -size +1M | head -n 150')],
    compression: 'gzip',
  },
  {
    name: 'large-files-zstd',
    tars: [tarOf('find usr/bin usr/lib -xdev -type f -size +1M | head -n 150')],
    compression: 'zstd',
  },
  {
    name: 'four-layers',
    tars: [
      tarOf('find usr/share -xdev | head -n 30000'),
      tarOf('find usr/include usr/local -xdev | head -n 30000'),
      tarOf('find usr/bin usr/sbin -xdev'),
      tarOf('find usr/lib -xdev -size -4M | head -n 30000'),
    ],
    compression: 'gzip',
  },
];

const COMPRESSORS = { gzip: 'gzip -4', zstd: 'zstd -3 -c' } as const;
const DECOMPRESSORS = { gzip: 'gzip -dc', zstd: 'zstd -dc' } as const;
const UNPACKED_BYTES_MAX = 64 * 1024 ** 3;
const EXT4_BYTES = 12 * 1024 ** 3;

const runs = Number(process.env.RUNS ?? 3);
const filesystem = process.env.FILESYSTEM ?? 'tmpfs';
const isRoot = process.getuid?.() === 0;

if (import.meta.main) await main();

async function main(): Promise<void> {
  if (filesystem === 'ext4' && !isRoot)
    throw new Error('Cannot mount a fresh ext4: root wanted (or FILESYSTEM=tmpfs)');
  const scratch = fs.mkdtempSync('/dev/shm/shoal-bench-unpack-');
  process.once('exit', () => fs.rmSync(scratch, { recursive: true, force: true }));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  using memory = useMemory();
  for (const each of CASES.filter(({ name }) => (process.env.CASE ?? name) === name))
    await measure(each, scratch, memory);
}

/** Sorted, so that two runs make the same layer; what vanishes or cannot be read is left out. */
function tarOf(list: string): string {
  return `cd / && (${list}) | LC_ALL=C sort | tar --no-recursion --ignore-failed-read -cf - -T - 2>/dev/null`;
}

async function measure(unpackCase: UnpackCase, scratch: string, memory: UsedMemory): Promise<void> {
  const directory = path.join(scratch, unpackCase.name);
  fs.mkdirSync(directory);
  const layers = unpackCase.tars.map((tar, i) =>
    buildLayer(tar, unpackCase.compression, path.join(directory, `${i}`)),
  );
  const ours: Sample[] = [];
  const rival: Sample[] = [];
  const verify: Sample[] = [];
  for (let run = 0; run < runs; run++) {
    memory.refill();
    rival.push(await onFreshFileSystem(scratch, (root) => timed(() => unpackWithTar(layers, root))));
    ours.push(await onFreshFileSystem(scratch, (root) => timed(() => unpackOurs(layers, root, 'overlay'))));
    verify.push(await timed(() => unpackOurs(layers, scratch, 'verify')));
  }
  const [oursSeconds, rivalSeconds] = [ours, rival].map((samples) =>
    median(samples.map(({ seconds }) => seconds)),
  );
  const oursCpuSeconds = median(ours.map(({ cpuSeconds }) => cpuSeconds)) ?? 0;
  const contentGB = layers.reduce((sum, { tarBytes }) => sum + tarBytes, 0) / 1e9;
  const line = {
    case: unpackCase.name,
    filesystem,
    layers: layers.length,
    compressedBytes: layers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    rival: `${DECOMPRESSORS[unpackCase.compression]} | tar x`,
    rivalSeconds,
    oursSeconds,
    ratio: round((rivalSeconds ?? 0) / (oursSeconds ?? 1)),
    oursCpuSeconds,
    oursCpuSecondsPerGB: round(oursCpuSeconds / contentGB),
    rivalSecondsPerGB: round((rivalSeconds ?? 0) / contentGB),
    verifySeconds: median(verify.map(({ seconds }) => seconds)),
    rssBytes: process.resourceUsage().maxRSS * 1024,
  };
  console.log(JSON.stringify(line));
  fs.rmSync(directory, { recursive: true });
}

function buildLayer(tar: string, compression: UnpackCase['compression'], base: string): Layer {
  const tarHash = `${base}.diff`;
  const tarSize = `${base}.size`;
  const command = `${tar} | tee >(sha256sum > ${tarHash}) >(wc -c > ${tarSize}) | ${COMPRESSORS[compression]} > ${base}; sha256sum < ${base}; wait`;
  const digest = execFileSync('bash', ['-c', command], { encoding: 'utf8' });
  const diffId = fs.readFileSync(tarHash, 'utf8');
  const hex = (output: string): Digest => digestFromHex(output.slice(0, 64));
  return {
    file: base,
    sizeBytes: fs.statSync(base).size,
    compression,
    digest: hex(digest),
    diffId: hex(diffId),
    tarBytes: Number(fs.readFileSync(tarSize, 'utf8')),
  };
}

async function unpackOurs(layers: readonly Layer[], root: string, mode: 'overlay' | 'verify'): Promise<void> {
  const pool = createUnpackPool();
  const signal = new AbortController().signal;
  const results = layers.map(({ file, ...layer }, i) => {
    const targetDirectory = path.join(root, `${i}`);
    if (mode === 'overlay') fs.mkdirSync(targetDirectory, { mode: 0o700 });
    const limits = { privileged: isRoot, unpackedBytesMax: UNPACKED_BYTES_MAX };
    const run = pool.start({ ...layer, ...limits, sourcePath: file, mode, targetDirectory }, signal);
    run.advance(layer.sizeBytes);
    return run.result;
  });
  await Promise.all(results);
  await pool.close();
}

async function unpackWithTar(layers: readonly Layer[], root: string): Promise<void> {
  const each = layers.map(({ file, compression }, i) => {
    const target = path.join(root, `${i}`);
    fs.mkdirSync(target, { mode: 0o700 });
    return shell(
      `${DECOMPRESSORS[compression as UnpackCase['compression']]} < ${file} | tar -C ${target} -xf -`,
    );
  });
  await Promise.all(each);
}

function shell(command: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('bash', ['-c', `set -o pipefail; ${command}`], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    child.once('error', reject);
    child.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`${command}: exit ${code}`))));
  });
}

interface Sample {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

async function timed(body: () => Promise<void>): Promise<Sample> {
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  await body();
  const { user, system } = process.cpuUsage(cpu);
  return {
    seconds: round((performance.now() - startedMs) / 1_000),
    cpuSeconds: round((user + system) / 1e6),
  };
}

/** A file system that has seen deletions is slower: every measurement gets a new one. */
async function onFreshFileSystem<Result>(
  scratch: string,
  body: (root: string) => Promise<Result>,
): Promise<Result> {
  const root = path.join(scratch, 'root');
  fs.mkdirSync(root);
  const image = filesystem === 'ext4' ? mountExt4(root) : undefined;
  try {
    return await body(root);
  } finally {
    if (image !== undefined) execFileSync('umount', [root]);
    if (image !== undefined) fs.rmSync(image);
    fs.rmSync(root, { recursive: true });
  }
}

function mountExt4(root: string): string {
  const image = path.join(fs.mkdtempSync('/var/tmp/shoal-bench-'), 'ext4');
  fs.writeFileSync(image, '');
  fs.truncateSync(image, EXT4_BYTES);
  execFileSync('mkfs.ext4', ['-q', '-F', image]);
  execFileSync('mount', ['-o', 'loop', image, root]);
  return image;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
