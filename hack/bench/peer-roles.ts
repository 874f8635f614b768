/** What the processes of `make bench-peer` do: hold a blob or take it, through an engine or bare. */
import { createCipheriv, createHash } from 'node:crypto';
import { writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import type { BlobKey } from '../../shim/base/blob-key.ts';
import { digestOf } from '../../shim/base/digest.ts';
import { DiskCache } from '../../shim/cache/disk-cache.ts';
import { type PeerTransport, plainTransport } from '../../shim/peer/peer-transport.ts';
import { readRightOf } from '../../shim/peer/read-right.ts';
import type { TlsFiles } from '../../shim/peer/tls-files.ts';
import { openTlsTransport } from '../../shim/peer/tls-transport.ts';
import type { TransferEngine } from '../../shim/peer/transfer.ts';
import { createTransferEngine } from '../../shim/peer/transfer-engine.ts';
import { CHUNK_SIZE_BYTES } from '../../shim/swarm/limits.ts';
import type { Member } from '../../shim/swarm/swarm-node.ts';

export type RoleName = 'hold-bare' | 'hold-engine' | 'take-bare' | 'take-engine';

/** What one process is told on its command line. */
export interface Role {
  readonly name: RoleName;
  readonly directory: string;
  /** Of the whole blob. */
  readonly chunks: number;
  /** Of a blob that is taken first, unmeasured: an agent runs for weeks, and only its first chunks compile its code. */
  readonly warmUpChunks: number;
  /** Undefined: plain text. */
  readonly tls: TlsFiles | undefined;
  /** Where the bytes are; for those who take. */
  readonly holders: readonly string[];
}

/** What a process used from one mark to the next. */
export interface Usage {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly rssBytes: number;
}

const KEY = { host: 'bench.test', digest: digestOf('bench') };
const WARM_UP_KEY = { host: 'bench.test', digest: digestOf('warm-up') };
const RIGHT = readRightOf([Buffer.from('a manifest'), Buffer.from('a config')], false);
const LISTEN = { host: '127.0.0.1', port: 0, insecure: false };
const CAPACITY_BYTES = 2 ** 40;
/** Chunks of its own that a bare sender has. */
const SENT_CHUNKS = 8;

/** The bytes of chunk `index`, the same in every process. */
function chunkOf(index: number): Buffer {
  const key = createHash('sha256').update(`chunk ${index}`).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(CHUNK_SIZE_BYTES));
}

/** Runs the role; a holder tells its parent where it listens, a taker what taking used. */
export async function runRole(role: Role): Promise<void> {
  const { tls } = role;
  const transport =
    tls === undefined ? plainTransport : await openTlsTransport({ files: tls, onReload: () => undefined });
  switch (role.name) {
    case 'hold-bare':
      return holdBare(transport, role);
    case 'hold-engine':
      return holdInEngine(transport, role);
    case 'take-bare':
      return takeBareTwice(transport, role);
    case 'take-engine':
      return takeWithEngine(transport, role);
    default:
      role.name satisfies never;
  }
}

function tell(message: Usage | string): void {
  process.send?.(message);
}

/** Answers every `mark` with what was used since the last one. */
function answerMarks(): void {
  let cpu = process.cpuUsage();
  process.on('message', (message) => {
    if (message !== 'mark') return;
    tell({ ...usageSince(0, cpu), seconds: 0 });
    cpu = process.cpuUsage();
  });
}

async function used(work: () => Promise<unknown>): Promise<Usage> {
  const startMs = performance.now();
  const cpu = process.cpuUsage();
  await work();
  return usageSince(startMs, cpu);
}

function usageSince(startMs: number, before: NodeJS.CpuUsage): Usage {
  const { user, system } = process.cpuUsage(before);
  const rssBytes = process.resourceUsage().maxRSS * 1024;
  return { seconds: (performance.now() - startMs) / 1000, cpuSeconds: (user + system) / 1e6, rssBytes };
}

/** As little as sending chunks can be: from memory, one after the other. */
function holdBare(transport: PeerTransport, { chunks }: Role): void {
  const bytes = Array.from({ length: SENT_CHUNKS }, (_, index) => chunkOf(index));
  const server = transport.createServer();
  server.on(transport.readyEvent, (socket: Socket) => {
    socket.on('error', () => undefined);
    let left = chunks;
    const next = (): void => {
      if (left-- > 0) socket.write(bytes[left % bytes.length] ?? Buffer.alloc(0), next);
    };
    next();
  });
  server.listen(0, LISTEN.host, () => tell(`${LISTEN.host}:${(server.address() as AddressInfo).port}`));
  answerMarks();
}

async function holdInEngine(transport: PeerTransport, role: Role): Promise<void> {
  const cache = await DiskCache.open({ directory: role.directory, capacityBytes: CAPACITY_BYTES });
  await fill(cache, KEY, role.chunks);
  if (role.warmUpChunks > 0) await fill(cache, WARM_UP_KEY, role.warmUpChunks);
  const members = settableMembers();
  const engine = await createTransferEngine({ cache, peers: { listen: LISTEN, members, transport } });
  for (const key of [KEY, WARM_UP_KEY]) engine.learnRight(key, RIGHT);
  process.on('message', (message) => {
    if (Array.isArray(message)) members.set(message);
  });
  tell(engine.self ?? '');
  answerMarks();
}

async function fill(cache: DiskCache, key: BlobKey, chunks: number): Promise<void> {
  const blob = await cache.pin(key, chunks * CHUNK_SIZE_BYTES);
  for (let chunk = 0; chunk < chunks; chunk++) {
    const bytes = chunkOf(chunk % SENT_CHUNKS);
    await blob.write(chunk * CHUNK_SIZE_BYTES, [bytes]);
    await blob.claim(chunk, createHash('sha256').update(bytes).digest());
  }
  await blob.confirm();
  await cache.unpin(blob);
}

/** Tells its name first, and starts when it is told that everybody knows it. */
async function takeWithEngine(transport: PeerTransport, role: Role): Promise<void> {
  const { directory, chunks, warmUpChunks, holders } = role;
  const cache = await DiskCache.open({ directory, capacityBytes: CAPACITY_BYTES });
  const members = settableMembers();
  const peers = { listen: LISTEN, members, transport, mayReadOrigin: false };
  const engine = await createTransferEngine({ cache, peers });
  members.set([...holders, engine.self ?? ''].map((peer) => ({ peer, zone: '' })));
  for (const key of [KEY, WARM_UP_KEY]) engine.learnRight(key, RIGHT);
  tell(engine.self ?? '');
  await go();
  if (warmUpChunks > 0) await take(engine, WARM_UP_KEY, warmUpChunks);
  tell('warm');
  await go();
  const usage = await used(() => take(engine, KEY, chunks));
  await engine.close();
  await cache.close();
  tell(usage);
}

async function go(): Promise<void> {
  await new Promise((resolve) => process.once('message', resolve));
}

async function take(engine: TransferEngine, key: BlobKey, chunks: number): Promise<void> {
  const readOrigin = () => Promise.reject(new Error('the origin is not asked in this bench'));
  const transfer = engine.open({ key, sizeBytes: chunks * CHUNK_SIZE_BYTES, readOrigin });
  await transfer.finished;
  transfer.release();
}

function settableMembers() {
  let listener = (_members: readonly Member[]): void => undefined;
  return {
    start: (onMembers: (members: readonly Member[]) => void) => {
      listener = onMembers;
    },
    set: (members: readonly Member[]) => listener(members),
    close: () => undefined,
  };
}

async function takeBareTwice(transport: PeerTransport, role: Role): Promise<void> {
  if (role.warmUpChunks > 0) await takeBare(transport, { ...role, chunks: role.warmUpChunks });
  tell('warm');
  await go();
  tell(await used(() => takeBare(transport, role)));
  process.disconnect?.();
}

/** As little as receiving, hashing and keeping chunks can be. */
async function takeBare(transport: PeerTransport, { directory, chunks, holders }: Role): Promise<void> {
  const file = await open(join(directory, 'bare'), 'w');
  const each = chunks / holders.length;
  await Promise.all(holders.map((holder, index) => receive(transport, holder, file.fd, index * each, each)));
  await file.close();
}

async function receive(
  transport: PeerTransport,
  holder: string,
  fd: number,
  firstChunk: number,
  chunks: number,
): Promise<void> {
  const buffer = Buffer.allocUnsafeSlow(CHUNK_SIZE_BYTES);
  let filled = 0;
  let done = 0;
  let hash = createHash('sha256');
  await new Promise<void>((resolve) => {
    const onRead = (bytes: Buffer): boolean => {
      hash.update(bytes);
      filled += bytes.length;
      if (filled < CHUNK_SIZE_BYTES) return true;
      hash.digest();
      hash = createHash('sha256');
      writeSync(fd, buffer, 0, filled, (firstChunk + done) * CHUNK_SIZE_BYTES);
      filled = 0;
      done += 1;
      if (done === chunks) socket.destroy();
      return true;
    };
    const port = Number(holder.split(':')[1]);
    const socket = transport.connect({
      host: LISTEN.host,
      port,
      nextBuffer: () => buffer.subarray(filled),
      onRead,
    });
    socket.on('close', () => resolve());
  });
}

if (process.argv[2] === '--role' && process.argv[3] !== undefined)
  await runRole(JSON.parse(process.argv[3]) as Role);
