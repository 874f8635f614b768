import { type BlobKey, blobKeyId } from '../../shim/base/blob-key.ts';
import type { ChunkHash, ChunkRun } from '../../shim/swarm/messages.ts';
import { FairLink } from './fair-link.ts';
import { chunkBytesOf } from './sim-blob.ts';
import type { OriginRead, SimNode } from './sim-node.ts';
import { passDown, type WorldHost } from './world-host.ts';

export interface SimOriginOptions {
  readonly originBytesPerSecond: number;
  readonly originLatencyMs: number;
  readonly downBytesPerSecond: number;
}

/** The origin: one link that all reads share fairly, which may refuse for a while. */
export class SimOrigin {
  readonly #host: WorldHost;
  readonly #options: SimOriginOptions;
  readonly #link: FairLink<OriginRead>;
  readonly #reads = new Set<OriginRead>();
  #down: { readonly untilMs: number; readonly retryAfterMs: number } | undefined;

  constructor(host: WorldHost, options: SimOriginOptions) {
    this.#host = host;
    this.#options = options;
    this.#link = new FairLink(options.originBytesPerSecond);
  }

  refuse(down: { readonly untilMs: number; readonly retryAfterMs: number }): void {
    this.#down = down;
  }

  read(node: SimNode, key: BlobKey, run: ChunkRun): void {
    const read: OriginRead = { node: node.index, key, run, next: run.firstChunk, isCancelled: false };
    const { nowMs, counts } = this.#host;
    counts.originRequests++;
    this.#reads.add(read);
    const atMs = nowMs + this.#options.originLatencyMs;
    if (this.#down !== undefined && nowMs < this.#down.untilMs) {
      this.#host.push(atMs, { kind: 'originFailed', read, retryAfterMs: this.#down.retryAfterMs });
    } else this.#host.push(atMs, { kind: 'originStart', read });
  }

  cancel(node: SimNode, key: BlobKey, run: ChunkRun): void {
    for (const read of this.#reads) {
      const isSame = blobKeyId(read.key) === blobKeyId(key) && read.run.firstChunk === run.firstChunk;
      if (read.node === node.index && isSame) read.isCancelled = true;
    }
  }

  handleStart(read: OriginRead): void {
    if (!this.#host.nodes[read.node]?.isAlive || read.isCancelled) {
      this.#reads.delete(read);
      return;
    }
    this.#link.add(read, this.#bytesOf(read), this.#host.nowMs);
    this.#plan();
  }

  handleLinkEnd(version: number): void {
    if (this.#link.version !== version) return;
    const bytesPerSecond = this.#options.downBytesPerSecond;
    for (const read of this.#link.takeEnded(this.#host.nowMs)) {
      const sizeBytes = this.#bytesOf(read);
      this.#host.counts.originBytes += sizeBytes;
      const transfer = { sizeBytes, bytesPerSecond, latencyMs: 0 };
      passDown(this.#host, read.node, transfer, { kind: 'originChunk', read });
    }
    this.#plan();
  }

  handleChunk(read: OriginRead): void {
    const node = this.#host.nodes[read.node] as SimNode;
    if (!node.isAlive || read.isCancelled) {
      this.#reads.delete(read);
      return;
    }
    const chunk = read.next++;
    this.#host.trace(4, read.node, chunk);
    const hash = this.#host.blobOf(read.key).hashes[0]?.hashes[chunk] as ChunkHash;
    const isEnd = read.next === read.run.firstChunk + read.run.chunkCount;
    if (!isEnd) this.handleStart(read);
    node.core.handleOriginChunk(read.key, chunk, hash, this.#host.nowMs);
    this.#host.drain(node);
    if (!isEnd) return;
    this.#reads.delete(read);
    node.core.handleOriginEnd(read.key, read.run, { ok: true }, this.#host.nowMs);
    this.#host.drain(node);
  }

  handleFailed(read: OriginRead, retryAfterMs: number): void {
    const node = this.#host.nodes[read.node] as SimNode;
    this.#reads.delete(read);
    if (!node.isAlive || read.isCancelled) return;
    const outcome = { ok: false, fatal: false, code: 'RATE_LIMITED', retryAfterMs } as const;
    node.core.handleOriginEnd(read.key, read.run, outcome, this.#host.nowMs);
    this.#host.drain(node);
  }

  #bytesOf(read: OriginRead): number {
    return chunkBytesOf(this.#host.blobOf(read.key), read.next);
  }

  #plan(): void {
    const endMs = this.#link.nextEndMs();
    if (endMs !== undefined) this.#host.push(endMs, { kind: 'originEnd', version: this.#link.version });
  }
}
