import { type BlobKey, blobKeyId } from '../../shim/base/blob-key.ts';
import type { ChunkRun } from '../../shim/swarm/messages.ts';
import { FairLink } from './fair-link.ts';
import { chunkBytesOf, chunkHashOf, TRUE_BYTES, wrongBytesOf } from './sim-blob.ts';
import type { SimNetwork } from './sim-network.ts';
import type { Flow, OriginFailure, OriginFlow, OriginRead, SimNode } from './sim-node.ts';
import { keep } from './stored-blobs.ts';
import type { WorldHost } from './world-host.ts';
import type { Fault, WorldOptions } from './world-options.ts';

type Down = Extract<Fault, { kind: 'originDown' }>;

/** A read that gets no answer fails after this, ms. */
const OUTAGE_TIMEOUT_MS = 5_000;
/** What a registry that refuses for too many requests says, ms. */
const RATE_RETRY_AFTER_MS = 1_000;
const FORBIDDEN: OriginFailure = { code: 'FORBIDDEN' };
const CODES = { 429: 'RATE_LIMITED', 503: 'UNAVAILABLE', outage: 'TIMEOUT' } as const;

/** The origin: one link that all reads share fairly, a limit of requests a second, and times at which it refuses. */
export class SimOrigin {
  readonly #host: WorldHost;
  readonly #network: SimNetwork;
  readonly #options: WorldOptions;
  readonly #link: FairLink<Flow>;
  readonly #reads = new Set<OriginRead>();
  #down: Down | undefined;
  /** Requests that may come now; refilled as time passes, up to one second's worth. */
  #allowance: number;
  #allowanceAtMs = 0;

  constructor(host: WorldHost, network: SimNetwork, options: WorldOptions) {
    this.#host = host;
    this.#network = network;
    this.#options = options;
    this.#link = new FairLink(options.originBytesPerSecond);
    this.#allowance = options.originRequestsPerSecond ?? 0;
  }

  refuse(down: Down): void {
    this.#down = down;
  }

  heal(): void {
    this.#down = undefined;
  }

  read(node: SimNode, key: BlobKey, run: ChunkRun): void {
    const { nowMs, counts, observers } = this.#host;
    const read: OriginRead = {
      node: node.index,
      life: node.life,
      key,
      run,
      next: run.firstChunk,
      isCancelled: false,
    };
    counts.originRequests++;
    for (const observer of observers) observer.onOriginRequest?.(node, this.#host.blobOf(key), run, nowMs);
    this.#reads.add(read);
    const failure = this.#host.rights.mayRead(node) ? this.#failureNow() : FORBIDDEN;
    if (failure === undefined)
      this.#host.push(nowMs + this.#options.originLatencyMs, { kind: 'originStart', read });
    else {
      counts.originRefusals++;
      const afterMs = failure.code === CODES.outage ? OUTAGE_TIMEOUT_MS : this.#options.originLatencyMs;
      this.#host.push(nowMs + afterMs, { kind: 'originFailed', read, failure });
    }
  }

  cancel(node: SimNode, key: BlobKey, run: ChunkRun): void {
    for (const read of this.#reads) {
      const isSame = blobKeyId(read.key) === blobKeyId(key) && read.run.firstChunk === run.firstChunk;
      if (read.node === node.index && isSame) read.isCancelled = true;
    }
  }

  handleStart(read: OriginRead): void {
    const node = this.#readerOf(read);
    if (node === undefined) return;
    const blob = this.#host.blobOf(read.key);
    const links = [this.#link, node.down];
    const sizeBytes = chunkBytesOf(blob, read.next);
    const { life } = read;
    const flow: OriginFlow = {
      kind: 'origin',
      to: node.index,
      life,
      blob,
      chunk: read.next,
      sizeBytes,
      links,
      linksLeft: 0,
      read,
    };
    this.#network.begin(flow);
  }

  handlePassed(flow: OriginFlow): void {
    const { counts, observers, nowMs } = this.#host;
    const node = this.#host.nodes[flow.to] as SimNode;
    counts.originBytes += flow.sizeBytes;
    for (const observer of observers) observer.onOriginBytes?.(node, flow.blob, flow.sizeBytes, nowMs);
    this.#network.store(node, flow);
  }

  handleStored({ read, blob, chunk }: OriginFlow): void {
    const node = this.#readerOf(read);
    if (node === undefined) return;
    read.next++;
    this.#host.trace(4, read.node, chunk);
    const isEnd = read.next === read.run.firstChunk + read.run.chunkCount;
    if (!isEnd) this.handleStart(read);
    const bytes = node.publishesLies ? wrongBytesOf(node.index) : TRUE_BYTES;
    keep(this.#host, node, { blob, chunk, bytes });
    node.core.handleOriginChunk(read.key, chunk, chunkHashOf(blob, chunk, bytes), this.#host.localMs(node));
    this.#host.drain(node);
    if (!isEnd) return;
    this.#reads.delete(read);
    node.core.handleOriginEnd(read.key, read.run, { ok: true }, this.#host.localMs(node));
    this.#host.drain(node);
  }

  handleFailed(read: OriginRead, failure: OriginFailure): void {
    const node = this.#readerOf(read);
    this.#reads.delete(read);
    if (node === undefined) return;
    const outcome = { ok: false, fatal: failure === FORBIDDEN, ...failure } as const;
    node.core.handleOriginEnd(read.key, read.run, outcome, this.#host.localMs(node));
    this.#host.drain(node);
  }

  /** Undefined when nobody waits for the answer any longer. */
  #readerOf(read: OriginRead): SimNode | undefined {
    const node = this.#host.nodes[read.node] as SimNode;
    if (node.isAlive && node.life === read.life && !read.isCancelled) return node;
    this.#reads.delete(read);
    return undefined;
  }

  #failureNow(): OriginFailure | undefined {
    const { nowMs } = this.#host;
    const down = this.#down;
    if (down !== undefined && nowMs < down.untilMs) {
      return { code: CODES[down.answer ?? 429], retryAfterMs: down.retryAfterMs };
    }
    const rate = this.#options.originRequestsPerSecond;
    if (rate === undefined) return undefined;
    this.#allowance = Math.min(rate, this.#allowance + ((nowMs - this.#allowanceAtMs) / 1000) * rate);
    this.#allowanceAtMs = nowMs;
    if (this.#allowance < 1) return { code: CODES[429], retryAfterMs: RATE_RETRY_AFTER_MS };
    this.#allowance--;
    return undefined;
  }
}
