import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fsyncSync } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { FileAdvice, posixFadvise } from '../../shim/base/posix.ts';
import { DEFAULT_CHUNK_SIZE_BYTES } from '../../shim/cache/disk-cache.ts';
import { type FileSystemKind, loopFileSystem } from '../../test/support/real/file-system.ts';
import { median } from './median.ts';

const FILE_BYTES = 512 * 2 ** 20;
const FILE_SYSTEM_BYTES = 2 * 2 ** 30;
const DEPTHS = [1, 4, 16];
/** Threads of libuv, which do file I/O: what Node starts with, and one for every request of the deepest queue. */
const THREADS = [4, 16];

interface Rates {
  /** Into the page cache, and until the disk has it. */
  readonly writeMBs: number;
  readonly durableWriteMBs: number;
  /** With nothing of the file in the page cache, and with all of it. */
  readonly coldReadMBs: number;
  readonly warmReadMBs: number;
}

/**
 * `make bench-disk`: writes and reads a file of the cache chunk by chunk with 1, 4 and 16 requests under way, as
 * `p2p.v2.cache.aioEnable` might set it. All depths take turns in each run; one JSON line a file system, number of threads and depth.
 */
async function main(): Promise<void> {
  const runs = Number(process.env.RUNS ?? 5);
  for (const kind of (process.env.FILESYSTEM ?? 'ext4,tmpfs').split(',') as FileSystemKind[])
    for (const threads of THREADS) {
      await using disk = await loopFileSystem(FILE_SYSTEM_BYTES, kind);
      await measureIn(disk.path, { kind, threads, runs });
    }
}

/** The number of threads is fixed when a process starts, so that each has one of its own. */
async function measureIn(
  directory: string,
  { kind, threads, runs }: { kind: FileSystemKind; threads: number; runs: number },
): Promise<void> {
  const child = spawn(process.execPath, [...process.execArgv, import.meta.filename, directory], {
    env: { ...process.env, UV_THREADPOOL_SIZE: String(threads), KIND: kind, RUNS: String(runs) },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`Cannot measure "${kind}" with ${threads} threads: exit code ${code}`);
}

async function measureAll(directory: string): Promise<void> {
  const rates = new Map<number, Rates[]>(DEPTHS.map((depth) => [depth, []]));
  for (let run = 0; run < Number(process.env.RUNS); run += 1)
    for (const depth of DEPTHS) rates.get(depth)?.push(await measure(join(directory, 'chunks'), depth));
  for (const [depth, each] of rates) {
    const of = (key: keyof Rates): number => Math.round(median(each.map((rate) => rate[key])));
    const head = { filesystem: process.env.KIND, threads: Number(process.env.UV_THREADPOOL_SIZE), depth };
    const tail = { coldReadMBs: of('coldReadMBs'), warmReadMBs: of('warmReadMBs'), runs: each.length };
    const written = { writeMBs: of('writeMBs'), durableWriteMBs: of('durableWriteMBs') };
    console.log(JSON.stringify({ ...head, ...written, ...tail }));
  }
}

async function measure(path: string, depth: number): Promise<Rates> {
  const buffers = Array.from({ length: depth }, () => Buffer.alloc(DEFAULT_CHUNK_SIZE_BYTES, 0x5a));
  const file = await open(path, 'w+');
  try {
    const startedMs = performance.now();
    await each(buffers, (buffer, at) => file.write(buffer, 0, buffer.length, at));
    const writeMBs = rateSince(startedMs);
    fsyncSync(file.fd);
    const durableWriteMBs = rateSince(startedMs);
    posixFadvise(file.fd, 0, 0, FileAdvice.dontNeed);
    const coldReadMBs = await readAll(file, buffers);
    const warmReadMBs = await readAll(file, buffers);
    return { writeMBs, durableWriteMBs, coldReadMBs, warmReadMBs };
  } finally {
    await file.close();
    await rm(path);
  }
}

async function readAll(file: FileHandle, buffers: readonly Buffer[]): Promise<number> {
  const startedMs = performance.now();
  await each(buffers, (buffer, at) => file.read(buffer, 0, buffer.length, at));
  return rateSince(startedMs);
}

/** One request a buffer is under way at any time, until the whole file is done. */
async function each(
  buffers: readonly Buffer[],
  request: (buffer: Buffer, at: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const work = async (buffer: Buffer): Promise<void> => {
    for (let at = next; at < FILE_BYTES; at = next) {
      next += buffer.length;
      await request(buffer, at);
    }
  };
  await Promise.all(buffers.map(work));
}

function rateSince(startedMs: number): number {
  return FILE_BYTES / 1000 / (performance.now() - startedMs);
}

const [, , directory] = process.argv;
await (directory === undefined ? main() : measureAll(directory));
