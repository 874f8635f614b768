/** A node in a process of its own that holds a file as a blob and serves it: to be killed, frozen, or cut off. */
import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { DiskCache } from '../../shim/cache/disk-cache.ts';
import { createTransferEngine } from '../../shim/peer/transfer-engine.ts';
import type { Member } from '../../shim/swarm/swarm-node.ts';
import type { SampleBlob } from './blob-origin.ts';
import { HOST, rightTo } from './peer-nodes.ts';

export interface HolderOrder {
  /** The blob's bytes. */
  readonly file: string;
  readonly directory: string;
  readonly uploadBytesPerSecond: number;
  /** Where others reach it, if that is not where it listens, and the port on which it listens then. */
  readonly behind?: { readonly self: string; readonly port: number };
}

export interface HolderProcess {
  readonly child: ChildProcess;
  /** Its name among peers. */
  readonly self: string;
  tellMembers(members: readonly string[]): void;
}

export async function startHolder(order: HolderOrder): Promise<HolderProcess> {
  const child = fork(import.meta.filename, ['--hold', JSON.stringify(order)]);
  const [self] = (await once(child, 'message')) as [string];
  return {
    child,
    self,
    tellMembers: (members) => {
      child.send(members.map((peer) => ({ peer, zone: '' })));
    },
  };
}

async function hold(order: HolderOrder): Promise<void> {
  const bytes = readFileSync(order.file);
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}` as SampleBlob['digest'];
  const key = { host: HOST, digest };
  const cache = await DiskCache.open({ directory: order.directory });
  const blob = await cache.pin(key, bytes.length);
  for (let chunk = 0; chunk < blob.chunkCount; chunk++) {
    const part = bytes.subarray(chunk * blob.chunkSizeBytes, (chunk + 1) * blob.chunkSizeBytes);
    await blob.write(chunk * blob.chunkSizeBytes, [part]);
    await blob.claim(chunk, createHash('sha256').update(part).digest());
  }
  await blob.confirm();
  await cache.unpin(blob);
  let listener = (_members: readonly Member[]): void => undefined;
  const members = {
    start: (onMembers: (all: readonly Member[]) => void) => {
      listener = onMembers;
    },
    close: () => undefined,
  };
  const listen = { host: '127.0.0.1', port: order.behind?.port ?? 0, insecure: false };
  const limits = { uploadBytesPerSecond: order.uploadBytesPerSecond };
  const engine = await createTransferEngine({
    cache,
    limits,
    peers: { listen, members, ...(order.behind && { self: order.behind.self }) },
  });
  const right = rightTo({ bytes, digest });
  if (right !== undefined) engine.learnRight(key, right);
  process.on('message', (all) => listener(all as Member[]));
  process.once('disconnect', () => process.exit());
  process.send?.(engine.self);
}

if (process.argv[2] === '--hold' && process.argv[3] !== undefined)
  await hold(JSON.parse(process.argv[3]) as HolderOrder);
