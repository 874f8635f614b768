/**
 * Four peers send one blob to one agent over loopback: the transfer engine against a bare receiver (one static buffer a
 * connection, SHA-256, one write a chunk), alternating. Prints one JSON object with the medians of all rounds.
 *
 * Run: `node hack/bench/peer.ts [MiB] [rounds]` with the project's own Node.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { digestOf } from '../../shim/base/digest.ts';
import { DiskCache } from '../../shim/cache/disk-cache.ts';
import { createTransferEngine } from '../../shim/peer/transfer-engine.ts';
import { CHUNK_SIZE_BYTES } from '../../shim/swarm/limits.ts';
import type { Member } from '../../shim/swarm/swarm-node.ts';
import { median } from './median.ts';

const PEERS = 4;
const DEFAULT_MIB = 256;
const DEFAULT_ROUNDS = 5;
const KEY = { host: 'bench.test', digest: digestOf('bench') };
const LISTEN = { host: '127.0.0.1', port: 0, insecure: false };

interface Figures {
  readonly megabytesPerSecond: number;
  readonly megabytesPerCpuSecond: number;
}

/** The bytes of chunk `index`, the same in every process. */
function chunkOf(index: number): Buffer {
  const key = createHash('sha256').update(`chunk ${index}`).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(CHUNK_SIZE_BYTES));
}

/** Runs in a child: holds the blob and serves it, through an engine or bare. */
async function serve(mode: string, directory: string, chunks: number): Promise<void> {
  if (mode === 'bare') return serveBare(chunks);
  const cache = await DiskCache.open({ directory, capacityBytes: 2 ** 40 });
  const blob = await cache.pin(KEY, chunks * CHUNK_SIZE_BYTES);
  for (let chunk = 0; chunk < chunks; chunk++) {
    const bytes = chunkOf(chunk);
    await blob.write(chunk * CHUNK_SIZE_BYTES, [bytes]);
    await blob.claim(chunk, createHash('sha256').update(bytes).digest());
  }
  await blob.confirm();
  await cache.unpin(blob);
  const members = settableMembers();
  const engine = await createTransferEngine({ cache, peers: { listen: LISTEN, members } });
  process.on('message', (all) => members.set(all as Member[]));
  process.send?.(engine.self);
}

function serveBare(chunks: number): void {
  const bytes = Array.from({ length: 8 }, (_, index) => chunkOf(index));
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    let left = chunks / PEERS;
    const next = (): void => {
      if (left-- > 0) socket.write(bytes[left % bytes.length] ?? Buffer.alloc(0), next);
    };
    next();
  });
  server.listen(0, '127.0.0.1', () => process.send?.(`127.0.0.1:${(server.address() as AddressInfo).port}`));
}

function settableMembers() {
  let tell = (_members: readonly Member[]): void => undefined;
  return {
    start: (onMembers: (members: readonly Member[]) => void) => {
      tell = onMembers;
    },
    set: (members: readonly Member[]) => tell(members),
    close: () => undefined,
  };
}

async function startPeers(
  mode: string,
  directory: string,
  chunks: number,
): Promise<[ChildProcess[], string[]]> {
  const children = Array.from({ length: PEERS }, (_, index) =>
    fork(import.meta.filename, ['--serve', mode, join(directory, `peer-${index}`), String(chunks)]),
  );
  const names = await Promise.all(children.map(async (child) => String((await once(child, 'message'))[0])));
  return [children, names];
}

async function measure(bytes: number, work: () => Promise<unknown>): Promise<Figures> {
  const startMs = performance.now();
  const cpu = process.cpuUsage();
  await work();
  const seconds = (performance.now() - startMs) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return {
    megabytesPerSecond: Math.round(bytes / 1e6 / seconds),
    megabytesPerCpuSecond: Math.round(bytes / (user + system)),
  };
}

async function benchEngine(directory: string, chunks: number): Promise<Figures> {
  const [children, names] = await startPeers('engine', directory, chunks);
  const cache = await DiskCache.open({ directory: join(directory, 'taker'), capacityBytes: 2 ** 40 });
  const members = settableMembers();
  const peers = { listen: LISTEN, members, mayReadOrigin: false };
  const engine = await createTransferEngine({ cache, peers });
  const all = [...names, engine.self ?? ''].map((peer) => ({ peer, zone: '' }));
  members.set(all);
  for (const child of children) child.send(all);
  const readOrigin = () => Promise.reject(new Error('the origin is not asked in this bench'));
  const sizeBytes = chunks * CHUNK_SIZE_BYTES;
  try {
    return await measure(sizeBytes, async () => {
      const transfer = engine.open({ key: KEY, sizeBytes, readOrigin });
      await transfer.finished;
      transfer.release();
    });
  } finally {
    await engine.close();
    await cache.close();
    for (const child of children) child.kill();
  }
}

async function benchBare(directory: string, chunks: number): Promise<Figures> {
  const [children, names] = await startPeers('bare', directory, chunks);
  const file = await open(join(directory, 'bare'), 'w');
  try {
    return await measure(chunks * CHUNK_SIZE_BYTES, () =>
      Promise.all(names.map((name, index) => receive(name, file.fd, index, chunks / PEERS))),
    );
  } finally {
    await file.close();
    for (const child of children) child.kill();
  }
}

/** As little as receiving, hashing and keeping chunks can be. */
async function receive(name: string, fd: number, index: number, chunks: number): Promise<void> {
  const buffer = Buffer.allocUnsafeSlow(CHUNK_SIZE_BYTES);
  let filled = 0;
  let done = 0;
  let hash = createHash('sha256');
  await new Promise<void>((resolve) => {
    const take = (count: number): boolean => {
      hash.update(buffer.subarray(filled, filled + count));
      filled += count;
      if (filled < CHUNK_SIZE_BYTES) return true;
      hash.digest();
      hash = createHash('sha256');
      writeSync(fd, buffer, 0, filled, (index * chunks + done) * CHUNK_SIZE_BYTES);
      filled = 0;
      done += 1;
      if (done === chunks) socket.destroy();
      return true;
    };
    const onread = { buffer: () => buffer.subarray(filled), callback: take };
    const socket = connect({ host: '127.0.0.1', port: Number(name.split(':')[1]), onread });
    socket.on('close', () => resolve());
  });
}

async function main(mebibytes: number, rounds: number): Promise<void> {
  const chunks = Math.ceil((mebibytes * 2 ** 20) / CHUNK_SIZE_BYTES / PEERS) * PEERS;
  const bare: Figures[] = [];
  const engine: Figures[] = [];
  for (let round = 0; round < rounds; round++) {
    bare.push(await inScratch((directory) => benchBare(directory, chunks)));
    engine.push(await inScratch((directory) => benchEngine(directory, chunks)));
  }
  const figures = {
    case: 'peer',
    peers: PEERS,
    bytes: chunks * CHUNK_SIZE_BYTES,
    rounds,
    bareMegabytesPerSecond: median(bare.map((each) => each.megabytesPerSecond)),
    bareMegabytesPerCpuSecond: median(bare.map((each) => each.megabytesPerCpuSecond)),
    shoalMegabytesPerSecond: median(engine.map((each) => each.megabytesPerSecond)),
    shoalMegabytesPerCpuSecond: median(engine.map((each) => each.megabytesPerCpuSecond)),
  };
  const ratio = figures.shoalMegabytesPerSecond / figures.bareMegabytesPerSecond;
  console.log(JSON.stringify({ ...figures, ratio: Number(ratio.toFixed(2)) }));
}

async function inScratch<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-bench-peer-'));
  try {
    return await work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const [flag, mode = '', directory = '', chunks = ''] = process.argv.slice(2);
if (flag === '--serve') await serve(mode, directory, Number(chunks));
else await main(Number(flag ?? DEFAULT_MIB), Number(mode || DEFAULT_ROUNDS));
