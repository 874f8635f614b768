import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DiskCache, type DiskCacheOptions } from '../../shim/cache/disk-cache.ts';
import type { MembershipSource, PeerMember } from '../../shim/peer/membership.ts';
import { type ReadRight, readRightOf } from '../../shim/peer/read-right.ts';
import type { ReadOrigin, Transfer } from '../../shim/peer/transfer.ts';
import {
  createTransferEngine,
  type PeerOptions,
  type RunningTransferEngine,
} from '../../shim/peer/transfer-engine.ts';
import type { TransferLimits } from '../../shim/peer/transfer-limits.ts';
import type { TransferObserver } from '../../shim/peer/transfer-observer.ts';
import { BlobOrigin, type SampleBlob } from './blob-origin.ts';

export const HOST = 'registry.test';

/** Members that a test sets when it knows them. */
class SetMembers implements MembershipSource {
  #tell: ((members: readonly PeerMember[]) => void) | undefined;
  #members: readonly PeerMember[] = [];

  start(onMembers: (members: readonly PeerMember[]) => void): void {
    this.#tell = onMembers;
    onMembers(this.#members);
  }

  set(members: readonly PeerMember[]): void {
    this.#members = members;
    this.#tell?.(members);
  }

  close(): void {
    this.#tell = undefined;
  }
}

export interface PeerNode {
  readonly engine: RunningTransferEngine;
  readonly cache: DiskCache;
  readonly directory: string;
  readonly self: string;
  open(blob: SampleBlob, readOrigin?: ReadOrigin): Transfer;
  close(): Promise<void>;
}

export interface NodeOptions {
  readonly cache?: Partial<DiskCacheOptions>;
  readonly limits?: Partial<TransferLimits>;
  readonly peers?: Partial<PeerOptions>;
  /** It has no peers and wants none. */
  readonly alone?: boolean;
  readonly observer?: TransferObserver;
  /** How the node comes to know that it may read: by an image (default), as everybody may, or it cannot tell. */
  readonly right?: 'image' | 'other image' | 'anonymous' | 'none';
}

/** Agents' transfer engines on loopback with real sockets and files, and one origin. */
export class PeerWorld {
  readonly origin: BlobOrigin;
  readonly directory = mkdtempSync(join(tmpdir(), 'shoal-peers-'));
  readonly #nodes: { node: PeerNode; members: SetMembers }[] = [];
  readonly #strangers: string[] = [];
  /** Names that certificates of members may be for. */
  memberNames: readonly string[] = [];
  #count = 0;

  constructor(origin: BlobOrigin) {
    this.origin = origin;
  }

  static async start(blobs: SampleBlob[]): Promise<PeerWorld> {
    return new PeerWorld(await BlobOrigin.start(...blobs));
  }

  static async run(blobs: SampleBlob[], body: (world: PeerWorld) => Promise<void>): Promise<void> {
    const world = await PeerWorld.start(blobs);
    try {
      await body(world);
    } finally {
      await world.close();
    }
  }

  async addNodes(count: number, options: NodeOptions = {}): Promise<PeerNode[]> {
    const nodes: PeerNode[] = [];
    for (let index = 0; index < count; index++) nodes.push(await this.addNode(options));
    return nodes;
  }

  /** `after` is a closed node whose cache the new one takes over. */
  async addNode(options: NodeOptions = {}, after?: PeerNode): Promise<PeerNode> {
    const directory = after?.directory ?? join(this.directory, `node-${this.#count++}`);
    const cache = await DiskCache.open({ directory, ...options.cache });
    const members = new SetMembers();
    const engine = await createTransferEngine({
      cache,
      ...(options.limits && { limits: options.limits }),
      ...(options.observer && { observer: options.observer }),
      ...(options.alone !== true && {
        peers: {
          listen: { host: '127.0.0.1', port: 0, insecure: false },
          members,
          seed: this.#count,
          ...options.peers,
        },
      }),
    });
    const node: PeerNode = {
      engine,
      cache,
      directory,
      self: engine.self ?? '',
      open: (blob, readOrigin = this.origin.reader(blob.digest)) => {
        const key = { host: HOST, digest: blob.digest };
        const right = rightTo(blob, options.right);
        if (right !== undefined) engine.learnRight(key, right);
        return engine.open({ key, sizeBytes: blob.bytes.length, readOrigin });
      },
      close: async () => {
        this.#nodes.splice(
          this.#nodes.findIndex((entry) => entry.node === node),
          1,
        );
        await engine.close();
        await cache.close();
      },
    };
    this.#nodes.push({ node, members });
    this.tellMembers();
    return node;
  }

  /** Makes an address a member that is no engine: a bad peer. */
  addStranger(self: string): void {
    this.#strangers.push(self);
    this.tellMembers();
  }

  tellMembers(): void {
    const all = [...this.#nodes.map(({ node }) => node.self), ...this.#strangers];
    for (const { members } of this.#nodes)
      members.set(all.map((peer) => ({ peer, zone: '', names: this.memberNames })));
  }

  async close(): Promise<void> {
    for (const { node } of [...this.#nodes]) await node.close();
    await this.origin.close();
    rmSync(this.directory, { recursive: true });
  }
}

/** As if each blob were an image's only layer. */
export function rightTo(blob: SampleBlob, by: NodeOptions['right'] = 'image'): ReadRight | undefined {
  if (by === 'none') return undefined;
  const config = by === 'image' ? 'a config' : by === 'anonymous' ? 'a public config' : 'another config';
  return readRightOf([Buffer.from(blob.digest), Buffer.from(config)], by === 'anonymous');
}

export function digestOfFile(path: string): string {
  return `sha256:${createHash('sha256').update(readFileSync(path)).digest('hex')}`;
}

/** Pulls to the end as the pipeline does: checks the digest, confirms, releases. */
export async function pull(node: PeerNode, blob: SampleBlob): Promise<Transfer['counts']> {
  const transfer = node.open(blob);
  await transfer.finished;
  if (digestOfFile(transfer.path) !== blob.digest) throw new Error('the pulled file has another digest');
  await transfer.confirm();
  transfer.release();
  return transfer.counts;
}
