import { setTimeout as sleep } from 'node:timers/promises';
import { unreachable } from '../base/assert.ts';
import { type BlobKey, blobKeyId } from '../base/blob-key.ts';
import { ErrorCode, type ShoalError } from '../base/errors.ts';
import { type CachedBlob, ChunkState } from '../cache/cached-blob.ts';
import type { DiskCache } from '../cache/disk-cache.ts';
import { Bitmap } from '../swarm/bitmap.ts';
import type { Action, ChunkRun, PeerId } from '../swarm/messages.ts';
import { type OriginOutcome, PullWait, type SwarmNode, type SwarmSnapshot } from '../swarm/swarm-node.ts';
import type { BlobFetch } from './blob-fetch.ts';
import { hashRunsOf } from './cached-hash-runs.ts';
import { ChunkBufferPool } from './chunk-buffer-pool.ts';
import { ChunkIntake } from './chunk-intake.ts';
import { ChunkServer } from './chunk-server.ts';
import type { ChunkSource } from './fetch-host.ts';
import { CHUNK_ROOM_BYTES } from './frame.ts';
import { GrantedReads } from './granted-reads.ts';
import type { MembershipSource } from './membership.ts';
import { OriginPermission } from './origin-permission.ts';
import type { OriginReads } from './origin-reads.ts';
import { unavailable } from './peer-connection.ts';
import { PeerLinks, type PeerLinksOptions } from './peer-links.ts';
import type { RateGate } from './rate-gate.ts';
import type { ReadRight } from './read-right.ts';
import { RightExchange } from './right-exchange.ts';
import type { RightsFile } from './rights-file.ts';
import type { TransferCounters } from './transfer-counters.ts';
import type { TransferObserver } from './transfer-observer.ts';

/** Actions carried out before other work of the process gets its turn. */
const ACTIONS_PER_TURN = 256;
/** Chunk buffers (64 MiB): chunks that arrive, are being written, or are being sent. */
const CHUNK_BUFFERS_MAX = 32;
/** A node that stops goes on serving no longer than this: Kubernetes kills it after 30 s. */
const DRAIN_MAX_MS = 20_000;
/** What only this node holds is asked for at once, by everybody who wants it; who has not asked for this long has it. */
const DRAIN_QUIET_MS = 2_000;
const DRAIN_LOOK_MS = 100;
/** Shortest sleep: timers are not exact below it, and the core must not spin. */
const SLEEP_MIN_MS = 1;

export interface SwarmDriverOptions {
  readonly node: SwarmNode;
  readonly cache: DiskCache;
  readonly reads: OriginReads;
  readonly upload: RateGate;
  readonly members: MembershipSource;
  readonly counters: TransferCounters;
  readonly observer: TransferObserver | undefined;
  readonly rightsFile: RightsFile | undefined;
  readonly links: Omit<PeerLinksOptions, 'events' | 'pool' | 'counters' | 'role'>;
  /** False for a node that leaves the origin to roots as long as there are any. */
  readonly isRoot: boolean;
  /** For logs: what the core remarked. */
  readonly onNote: (note: Extract<Action, { kind: 'note' }>) => void;
}

/** The I/O around a SwarmNode: sockets, timers, the cache file and reads at the origin. */
export class SwarmDriver implements ChunkSource {
  readonly #options: SwarmDriverOptions;
  readonly #node: SwarmNode;
  readonly #cache: DiskCache;
  readonly #intake: ChunkIntake;
  readonly #links: PeerLinks;
  readonly #server: ChunkServer;
  readonly #rights: RightExchange;
  readonly #fetches = new Map<string, BlobFetch>();
  /** Writes and origin reads of a fetch that have not ended. */
  readonly #work = new Map<BlobFetch, Set<Promise<void>>>();
  readonly #granted: GrantedReads;
  /** Blobs whose next fetch continues in the core what the distrusted one left. */
  readonly #distrusted = new Set<string>();
  readonly #stopWatchingCache: () => void;
  readonly #permission: OriginPermission;
  #lastAskedMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  /** When the timer goes off. */
  #timerMs = Number.POSITIVE_INFINITY;
  #draining = false;
  #closed = false;

  constructor(options: SwarmDriverOptions) {
    this.#options = options;
    this.#permission = new OriginPermission({
      isRoot: options.isRoot,
      self: options.links.self,
      dial: (peer) => this.#links.dial(peer),
      onChange: (mayRead) => this.#input((nowMs) => this.#node.setMayReadOrigin(mayRead, nowMs)),
    });
    this.#node = options.node;
    this.#cache = options.cache;
    const pool = new ChunkBufferPool(CHUNK_ROOM_BYTES + options.cache.chunkSizeBytes, CHUNK_BUFFERS_MAX);
    this.#links = new PeerLinks({
      ...options.links,
      role: () => this.#permission.role,
      pool,
      counters: options.counters,
      events: {
        onConnected: (peer, zone, role) => {
          this.#permission.connected(peer, role);
          this.#input((nowMs) => this.#node.handleConnected(peer, { zone }, nowMs));
        },
        onDisconnected: (peer, reason) => {
          this.#rights.handleDisconnected(peer);
          this.#permission.disconnected(peer);
          this.#input((nowMs) => this.#node.handleDisconnected(peer, reason.message, nowMs));
        },
        onMessage: (peer, message) => {
          if (!this.#rights.admits(peer, message)) return;
          if (message.kind === 'request') this.#lastAskedMs = performance.now();
          this.#input((nowMs) => this.#node.handleMessage(peer, message, nowMs));
        },
        onRight: (peer, message, session) => this.#rights.handleMessage(peer, message, session),
        onChunk: (...chunk) => this.#intake.expect(...chunk),
      },
    });
    const { cache, upload, counters, observer } = options;
    this.#server = new ChunkServer({
      cache,
      upload,
      counters,
      observer,
      links: this.#links,
      pool,
    });
    this.#intake = new ChunkIntake({
      node: this.#node,
      pool,
      counters,
      observer,
      fetchOf: (key) => this.#fetches.get(blobKeyId(key)),
      workOf: (fetch) => this.#work.get(fetch),
      input: (give) => this.#input(give),
    });
    this.#rights = new RightExchange({
      cache,
      counters,
      links: this.#links,
      file: options.rightsFile,
      fetchOf: (key) => this.#fetches.get(blobKeyId(key)),
    });
    this.#granted = new GrantedReads(options.reads, (key, chunk, hash) =>
      this.#input((nowMs) => this.#node.handleOriginChunk(key, chunk, hash, nowMs)),
    );
    this.#stopWatchingCache = this.#cache.onDrop((key) => this.#onDropped(key));
  }

  get snapshot(): SwarmSnapshot {
    return this.#node.snapshot();
  }

  get connectionCount(): number {
    return this.#links.connectionCount;
  }

  /** Learns who takes part, then offers what the cache holds: an offer goes to nodes that are known by then. */
  open(): void {
    let offered = false;
    this.#options.members.start((members) => {
      this.#links.setMembers(members);
      this.#input((nowMs) => this.#node.handleMembers(members, nowMs));
      this.#permission.setMembers(members);
      if (!offered) for (const blob of this.#cache.blobs()) if (blob.frozen) this.confirmed(blob);
      offered = true;
    });
  }

  async drain(): Promise<void> {
    this.#permission.withdraw();
    const endMs = performance.now() + DRAIN_MAX_MS;
    for (let nowMs = performance.now(); nowMs < endMs; nowMs = performance.now()) {
      if (this.#closed || nowMs - this.#lastAskedMs > DRAIN_QUIET_MS) return;
      await sleep(DRAIN_LOOK_MS);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#options.members.close();
    this.#stopWatchingCache();
    clearTimeout(this.#timer);
    this.#permission.close();
    this.#granted.close();
    await this.#rights.close();
    await this.#links.close();
  }

  start(fetch: BlobFetch): void {
    const id = blobKeyId(fetch.key);
    this.#fetches.set(id, fetch);
    this.#work.set(fetch, new Set());
    this.#distrusted.delete(id);
    const { key, sizeBytes, blob } = fetch;
    const held = new Bitmap(blob.chunkCount);
    for (let chunk = 0; chunk < blob.chunkCount; chunk++)
      if (blob.stateOf(chunk) === ChunkState.Verified) held.add(chunk);
    const hashes = hashRunsOf(blob, (chunk) => held.has(chunk));
    this.#input((nowMs) => {
      this.#node.join({ key, sizeBytes, held, hashes }, nowMs);
      const { offsetBytes, setsPace } = fetch.consumer;
      this.#node.setConsumer(key, { nextByte: offsetBytes, setsPace }, nowMs);
      if (fetch.originOnly) this.#node.distrust(key, nowMs);
    });
  }

  async stop(fetch: BlobFetch): Promise<void> {
    const id = blobKeyId(fetch.key);
    const started = this.#fetches.get(id) === fetch;
    if (started) this.#fetches.delete(id);
    await Promise.all(this.#work.get(fetch) ?? []);
    this.#work.delete(fetch);
    const blob = this.#cache.get(fetch.key);
    const keepsServing = blob?.frozen === true && blob.complete;
    if (started && !keepsServing && !this.#distrusted.has(id) && !this.#closed)
      this.#input((nowMs) => this.#node.leave(fetch.key, nowMs));
  }

  consumerMoved(fetch: BlobFetch): void {
    if (this.#fetches.get(blobKeyId(fetch.key)) !== fetch) return;
    const { offsetBytes, setsPace } = fetch.consumer;
    this.#input((nowMs) => this.#node.setConsumer(fetch.key, { nextByte: offsetBytes, setsPace }, nowMs));
  }

  waitOf(fetch: BlobFetch): PullWait {
    let wait: PullWait = PullWait.None;
    this.#input((nowMs) => {
      wait = this.#node.waitOf(fetch.key, nowMs);
    });
    return wait;
  }

  confirmed(blob: CachedBlob): void {
    if (!blob.complete || blob.sizeBytes === 0) return;
    const { key, sizeBytes } = blob;
    const hashes = hashRunsOf(blob, () => true);
    this.#input((nowMs) => this.#node.seed({ key, sizeBytes, hashes }, nowMs));
  }

  learnRight(key: BlobKey, right: ReadRight): void {
    this.#rights.learn(key, right);
  }

  distrusted(key: BlobKey): void {
    this.#distrusted.add(blobKeyId(key));
  }

  #onDropped(key: BlobKey): void {
    const id = blobKeyId(key);
    if (this.#fetches.has(id) || this.#distrusted.has(id)) return;
    this.#rights.forget(key);
    this.#input((nowMs) => this.#node.leave(key, nowMs));
  }

  /** Gives the core one input and carries out what it asks for. Inputs that come up meanwhile only add to that. */
  #input(give: (nowMs: number) => void): void {
    if (this.#closed) return;
    give(performance.now());
    if (!this.#draining) this.#drain();
  }

  #drain(): void {
    this.#draining = true;
    try {
      for (let count = 0; count < ACTIONS_PER_TURN; count++) {
        const action = this.#node.pollAction();
        if (action === undefined) {
          this.#schedule();
          return;
        }
        this.#carryOut(action);
      }
    } finally {
      this.#draining = false;
    }
    setImmediate(() => {
      if (!this.#closed && !this.#draining) this.#drain();
    });
  }

  /** A timer that goes off too early is left: most inputs put the next wakeup off, and setting it each time costs more. */
  #schedule(): void {
    const atMs = this.#node.nextWakeupMs();
    if (atMs === undefined || this.#timerMs <= atMs) return;
    clearTimeout(this.#timer);
    this.#timerMs = atMs;
    const delayMs = Math.max(SLEEP_MIN_MS, Math.ceil(atMs - performance.now()));
    this.#timer = setTimeout(() => this.#onTimer(), delayMs);
  }

  #onTimer(): void {
    this.#timerMs = Number.POSITIVE_INFINITY;
    const atMs = this.#node.nextWakeupMs();
    if (atMs !== undefined && atMs > performance.now()) this.#schedule();
    else this.#input((nowMs) => this.#node.handleTimeout(nowMs));
  }

  #carryOut(action: Action): void {
    switch (action.kind) {
      case 'dial':
        this.#links.dial(action.peer);
        return;
      case 'hangUp':
        this.#hangUp(action.peer, unavailable(action.reason));
        return;
      case 'send':
        this.#rights.beforeSend(action.peer, action.message);
        this.#links.send(action.peer, action.message);
        return;
      case 'readOrigin':
        void this.#readOrigin(action.key, action.run);
        return;
      case 'cancelOrigin':
        this.#granted.cancel(action.key, action.run);
        return;
      case 'serve':
        void this.#serve(action);
        return;
      case 'cancelServe':
        this.#server.cancel(action.peer, action.requestId);
        return;
      case 'complete':
        return;
      case 'note':
        if (action.event === 'budgetWait') this.#options.counters.originBudgetWaits += 1;
        this.#options.onNote(action);
        return;
      default:
        unreachable(action, 'swarm action');
    }
  }

  #hangUp(peer: PeerId, reason: ShoalError): void {
    this.#links.hangUp(peer, reason);
    this.#rights.handleDisconnected(peer);
    this.#permission.disconnected(peer);
    this.#input((nowMs) => this.#node.handleDisconnected(peer, reason.message, nowMs));
  }

  async #readOrigin(key: BlobKey, run: ChunkRun): Promise<void> {
    const fetch = this.#fetches.get(blobKeyId(key));
    let outcome: OriginOutcome = { ok: false, fatal: false, code: ErrorCode.Cancelled };
    if (fetch !== undefined) {
      const work = this.#work.get(fetch);
      const reading = this.#granted.read(fetch, run);
      const settled = reading.then(() => undefined);
      work?.add(settled);
      outcome = await reading;
      work?.delete(settled);
    }
    this.#input((nowMs) => this.#node.handleOriginEnd(key, run, outcome, nowMs));
  }

  async #serve(action: Extract<Action, { kind: 'serve' }>): Promise<void> {
    await this.#server.serve(action);
    this.#input((nowMs) => this.#node.handleServed(action.peer, action.requestId, nowMs));
  }
}
