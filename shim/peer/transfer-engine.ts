import { randomInt } from 'node:crypto';
import type { Server } from 'node:net';
import { assert } from '../base/assert.ts';
import { type BlobKey, blobKeyId } from '../base/blob-key.ts';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import type { DiskCache } from '../cache/disk-cache.ts';
import type { SwarmLimits } from '../swarm/limits.ts';
import type { PeerId } from '../swarm/messages.ts';
import { SwarmNode, type SwarmSnapshot } from '../swarm/swarm-node.ts';
import { BlobFetch } from './blob-fetch.ts';
import type { ChunkSource, FetchHost } from './fetch-host.ts';
import { listenForPeers, type PeerListenOptions } from './listen-for-peers.ts';
import type { MembershipSource } from './membership.ts';
import { OriginOnlySource } from './origin-only-source.ts';
import { OriginReads } from './origin-reads.ts';
import { peerIdOf } from './peer-address.ts';
import { type PeerTransport, plainTransport } from './peer-transport.ts';
import { RateGate } from './rate-gate.ts';
import type { ReadRight } from './read-right.ts';
import { RightsFile } from './rights-file.ts';
import { SwarmDriver, type SwarmDriverOptions } from './swarm-driver.ts';
import type { ReadOrigin, Transfer, TransferEngine, TransferRequest } from './transfer.ts';
import { newTransferCounters, type TransferCounters } from './transfer-counters.ts';
import { DEFAULT_TRANSFER_LIMITS, type TransferLimits } from './transfer-limits.ts';
import type { TransferObserver } from './transfer-observer.ts';
import { Turnstile } from './turnstile.ts';

export interface PeerOptions {
  readonly listen: PeerListenOptions;
  readonly members: MembershipSource;
  /** How the other members name this node; default is the address it listens on. Must be the same everywhere. */
  readonly self?: PeerId;
  /** Default none. */
  readonly zone?: string;
  /** For the logs of peers; default is `self`. */
  readonly nodeName?: string;
  /** False for nodes that leave the origin to others as long as there are others. Default true. */
  readonly mayReadOrigin?: boolean;
  /** Refuse peers that connect from another address than their name has. Default true. */
  readonly verifyAddress?: boolean;
  /** Seeds the core's choices; default random. */
  readonly seed?: number;
  readonly swarmLimits?: Partial<SwarmLimits>;
  readonly transport?: PeerTransport;
  /** Where rights to read are kept across restarts; without it they are asked for anew. */
  readonly rightsPath?: string;
  readonly onNote?: SwarmDriverOptions['onNote'];
}

export interface TransferEngineOptions {
  /** Not closed by the engine. */
  readonly cache: DiskCache;
  readonly limits?: Partial<TransferLimits>;
  /** Told of every chunk that moves. */
  readonly observer?: TransferObserver;
  /** Without it the engine reads from the origin alone. */
  readonly peers?: PeerOptions;
}

/** A TransferEngine with what operators want to see of it. */
export interface RunningTransferEngine extends TransferEngine {
  readonly counters: TransferCounters;
  /** How peers name this node; undefined without peers. */
  readonly self: PeerId | undefined;
  /** What the swarm looks like from here; undefined without peers. */
  swarmSnapshot(): SwarmSnapshot | undefined;
  /** Blobs that are being fetched or held for a pull. */
  readonly liveBlobs: number;
  /** Open connections to peers, both directions. */
  readonly connections: number;
  /**
   * For a node that is about to stop: takes no more origin leases, and resolves when peers have not asked it for a chunk for
   * 2 s, at the latest after 20 s. Until then it serves what only it may hold.
   */
  drain(): Promise<void>;
}

/** Starts the engine. Its owner closes it, and after it the cache. @throws ConfigInvalid, ListenFailed */
export async function createTransferEngine(options: TransferEngineOptions): Promise<RunningTransferEngine> {
  const peers = options.peers;
  if (peers === undefined) return new Engine(options, undefined);
  const transport = peers.transport ?? plainTransport;
  const rightsFile = peers.rightsPath === undefined ? undefined : await RightsFile.open(peers.rightsPath);
  const { server, port } = await listenForPeers(transport, peers.listen);
  const self = peers.self ?? peerIdOf(peers.listen.host, port);
  return new Engine(options, { server, self, transport, rightsFile });
}

interface Listening {
  readonly server: Server;
  readonly self: PeerId;
  readonly transport: PeerTransport;
  readonly rightsFile: RightsFile | undefined;
}

class Engine implements RunningTransferEngine, FetchHost {
  readonly cache: DiskCache;
  readonly limits: TransferLimits;
  readonly counters = newTransferCounters();
  readonly throttle: RateGate;
  readonly downloads: Turnstile;
  readonly source: ChunkSource;
  readonly observer: TransferObserver | undefined;
  readonly self: PeerId | undefined;
  lastBytesMs = Number.NEGATIVE_INFINITY;
  readonly #driver: SwarmDriver | undefined;
  readonly #uploadRate: RateGate;
  readonly #originRate: RateGate;
  readonly #originRequestRate: RateGate;
  readonly #fetches = new Map<string, BlobFetch>();
  /** Fetches that ended and may still touch the cache, by blob. */
  readonly #stopping = new Map<string, Promise<void>>();
  #closed = false;

  constructor(options: TransferEngineOptions, listening: Listening | undefined) {
    this.cache = options.cache;
    this.limits = { ...DEFAULT_TRANSFER_LIMITS, ...options.limits };
    this.throttle = new RateGate(this.limits.localBytesPerSecond);
    this.downloads = new Turnstile(this.limits.downloadsMax);
    this.#originRate = new RateGate(this.limits.originBytesPerSecond);
    this.#originRequestRate = new RateGate(this.limits.originRequestsPerSecond);
    this.observer = options.observer;
    const { limits, counters, observer } = this;
    const rates = { rate: this.#originRate, requestRate: this.#originRequestRate };
    const reads = new OriginReads({ limits, counters, observer, ...rates });
    this.#uploadRate = new RateGate(this.limits.uploadBytesPerSecond);
    this.self = listening?.self;
    this.#driver = options.peers && listening && this.#makeDriver(options.peers, listening, reads);
    this.source = this.#driver ?? new OriginOnlySource(reads);
    this.#driver?.open();
  }

  get liveBlobs(): number {
    return this.#fetches.size;
  }

  get connections(): number {
    return this.#driver?.connectionCount ?? 0;
  }

  swarmSnapshot(): SwarmSnapshot | undefined {
    return this.#driver?.snapshot;
  }

  open(request: TransferRequest): Transfer {
    assert(!this.#closed, 'nothing is opened in a closed transfer engine');
    this.counters.blobsOpened += 1;
    const id = blobKeyId(request.key);
    const running = this.#fetches.get(id);
    if (running?.sizeBytes === request.sizeBytes) return running.join(request.readOrigin);
    if (running !== undefined) return this.#refuse(request, running.sizeBytes);
    return this.#start(request.key, request.sizeBytes, false).join(request.readOrigin);
  }

  learnRight(key: BlobKey, right: ReadRight): void {
    this.#driver?.learnRight(key, right);
  }

  async adopt(key: BlobKey, path: string, sizeBytes: number): Promise<void> {
    await this.cache.adopt(key, path, sizeBytes);
  }

  retire(fetch: BlobFetch): void {
    const id = blobKeyId(fetch.key);
    if (this.#fetches.get(id) !== fetch) return;
    this.#fetches.delete(id);
    this.#waitFor(id, fetch.stopped);
  }

  reopen(old: BlobFetch, readOrigin: ReadOrigin): Transfer {
    const id = blobKeyId(old.key);
    const running = this.#fetches.get(id);
    if (running !== undefined && running !== old && running.originOnly) return running.join(readOrigin);
    const blob = this.cache.get(old.key);
    this.retire(old);
    running?.fail(
      new ShoalError(ErrorCode.CacheCorrupt, `Cannot use "${old.key.digest}": its digest was wrong`),
    );
    if (blob !== undefined) this.#waitFor(id, this.cache.drop(blob));
    return this.#start(old.key, old.sizeBytes, true).join(readOrigin);
  }

  async drain(): Promise<void> {
    await this.#driver?.drain();
  }

  async close(): Promise<void> {
    this.#closed = true;
    const reason = new ShoalError(ErrorCode.Cancelled, 'Cannot fetch: the transfer engine was closed');
    for (const fetch of this.#fetches.values()) fetch.fail(reason);
    this.throttle.close();
    this.#originRate.close();
    this.#originRequestRate.close();
    this.#uploadRate.close();
    await this.#driver?.close();
    await Promise.all(this.#stopping.values());
  }

  #makeDriver(
    peers: PeerOptions,
    { server, self, transport, rightsFile }: Listening,
    reads: OriginReads,
  ): SwarmDriver {
    const zone = peers.zone ?? '';
    const node = new SwarmNode({
      self,
      zone,
      seed: peers.seed ?? randomInt(2 ** 32),
      mayReadOrigin: true,
      originLimits: {
        bytesPerSecond: this.limits.originBytesPerSecond,
        requestsPerSecond: this.limits.originRequestsPerSecond,
      },
      ...(peers.swarmLimits && { limits: peers.swarmLimits }),
    });
    return new SwarmDriver({
      node,
      cache: this.cache,
      reads,
      upload: this.#uploadRate,
      members: peers.members,
      counters: this.counters,
      observer: this.observer,
      rightsFile,
      isRoot: peers.mayReadOrigin ?? true,
      links: {
        self,
        zone,
        nodeName: peers.nodeName ?? self,
        server,
        verifyAddress: peers.verifyAddress ?? true,
        transport,
        dialTimeoutMs: this.limits.dialTimeoutMs,
        connectionsMax: this.limits.connectionsMax,
      },
      onNote: peers.onNote ?? (() => undefined),
    });
  }

  /** The next fetch of the blob begins after `work`, and after all that was to be waited for before. */
  #waitFor(id: string, work: Promise<void>): void {
    const settled = Promise.all([this.#stopping.get(id), work]).then(() => {
      if (this.#stopping.get(id) === settled) this.#stopping.delete(id);
    });
    this.#stopping.set(id, settled);
  }

  /** Two pulls that disagree about the size of one digest: the later one fails, so it cannot harm the earlier one. */
  #refuse(request: TransferRequest, otherBytes: number): Transfer {
    const fetch = new BlobFetch(this, request.key, request.sizeBytes, Promise.resolve(), false);
    const view = fetch.join(request.readOrigin);
    fetch.fail(sizeConflict(request, otherBytes));
    return view;
  }

  #start(key: BlobKey, sizeBytes: number, originOnly: boolean): BlobFetch {
    const id = blobKeyId(key);
    const before = this.#stopping.get(id) ?? Promise.resolve();
    const fetch = new BlobFetch(this, key, sizeBytes, before, originOnly);
    this.#fetches.set(id, fetch);
    return fetch;
  }
}

function sizeConflict(request: TransferRequest, otherBytes: number): ShoalError {
  return new ShoalError(
    ErrorCode.SizeMismatch,
    `Cannot fetch "${request.key.digest}": wanted with ${request.sizeBytes} and with ${otherBytes} bytes at once`,
  );
}
