import { type BlobKey, blobKeyId } from '../base/blob-key.ts';
import type { Bitmap } from './bitmap.ts';
import { BlobTrust } from './blob-trust.ts';
import { ChunkFetcher } from './chunk-fetcher.ts';
import { ChunkLedger } from './chunk-ledger.ts';
import { Directories } from './directories.ts';
import { Followers } from './followers.ts';
import { forEachHash } from './hash-runs.ts';
import { CHUNK_SIZE_BYTES, chunkCountOf } from './limits.ts';
import type { ChunkHash, ChunkRun, HashRun, PeerId, PeerMessage } from './messages.ts';
import { Neighbours } from './neighbours.ts';
import { OriginReader } from './origin-reader.ts';
import { StallWatch } from './stall-watch.ts';
import type { SwarmContext } from './swarm-context.ts';

type Message<K extends PeerMessage['kind']> = Extract<PeerMessage, { kind: K }>;

/** Time-outs, hedges and neighbours of a pull are looked after this often, ms. */
const TICK_MS = 100;
/** A node that knows of nobody asks the other directories after this, ms: at the start of a swarm somebody turns up sooner. */
const NOBODY_MS = 500;
/** A node short of neighbours asks the directory for others after this, instead of at its next regular announce, ms. */
const HOLDERS_WANTED_MS = 500;
/** Time between two announces of a window that moves, ms. */
const WINDOW_TOLD_MS = 250;
/** A zone that gets nothing for this long helps itself, one node in `CROSS_ODDS` at a time, ms. */
const CROSS_AFTER_MS = 1_500;
const CROSS_ODDS = 8;
/** Who was refused or dropped without fault is asked again after this, ms. */
const REFUSED_PAUSE_MS = 1_000;

/** This node's part in one blob: what it holds, whom it follows, who follows it, and what it reads at the origin. */
export class BlobSwarm {
  readonly key: BlobKey;
  readonly keyId: string;
  readonly sizeBytes: number;
  readonly ledger: ChunkLedger;
  readonly neighbours: Neighbours;
  readonly followers: Followers;
  readonly fetcher: ChunkFetcher;
  readonly directories: Directories;
  readonly origin: OriginReader;
  readonly stall: StallWatch;
  readonly trust: BlobTrust;
  /** True while chunks are missing and wanted. */
  isPulling = false;
  isOriginOnly = false;
  dueMs = Number.POSITIVE_INFINITY;
  readonly #context: SwarmContext;
  #pullingSinceMs = Number.POSITIVE_INFINITY;
  #tickAtMs = Number.POSITIVE_INFINITY;
  #gainedMs = Number.NEGATIVE_INFINITY;
  #resumeAtMs = Number.POSITIVE_INFINITY;

  constructor(context: SwarmContext, key: BlobKey, sizeBytes: number) {
    this.#context = context;
    this.key = key;
    this.keyId = blobKeyId(key);
    this.sizeBytes = sizeBytes;
    this.ledger = new ChunkLedger(chunkCountOf(sizeBytes));
    this.neighbours = new Neighbours(context, { key, sizeBytes, chunkCount: this.ledger.chunkCount });
    const { ledger, neighbours } = this;
    this.followers = new Followers(context, { key, ledger, neighbours });
    const windowEnd = (): number => this.windowEnd();
    const parts = { key, keyId: this.keyId, ledger, neighbours, windowEnd };
    this.fetcher = new ChunkFetcher(context, parts);
    this.trust = new BlobTrust(context, { ...parts, fetcher: this.fetcher });
    this.directories = new Directories(context, this);
    this.origin = new OriginReader(context, this);
    this.stall = new StallWatch(context.limits.stalledMs);
  }

  /** Takes what is held from before and, when something is missing, starts to pull. */
  start(held: Bitmap | undefined, hashes: readonly HashRun[], nowMs: number): void {
    forEachHash(hashes, this.ledger.chunkCount, (chunk, hash) => {
      this.ledger.learnTrusted(chunk, hash);
      if (held === undefined || held.has(chunk)) this.ledger.hold(chunk, undefined);
    });
    this.isPulling = this.ledger.missingCount > 0;
    this.directories.refreshRanking();
    this.directories.announceSoon(nowMs);
    this.#context.lastChunkMs = Math.max(this.#context.lastChunkMs, nowMs);
    this.#pullingSinceMs = nowMs;
    this.#gainedMs = nowMs;
    if (this.isPulling) this.#tickAtMs = nowMs;
    else this.#context.emit({ kind: 'complete', key: this.key });
    this.plan();
  }

  stop(nowMs: number): void {
    this.fetcher.dropAll();
    this.origin.stop(nowMs);
    this.directories.depart();
    this.followers.depart();
    this.neighbours.unfollowAll();
    this.#context.pace.end(this.keyId);
    this.isPulling = false;
    this.#tickAtMs = Number.POSITIVE_INFINITY;
    this.plan();
  }

  distrust(nowMs: number): void {
    this.stop(nowMs);
    this.followers.clear();
    this.trust.distrust();
    this.isOriginOnly = true;
    this.isPulling = true;
    this.#tickAtMs = nowMs;
    this.plan();
  }

  setConsumer(nextByte: number, setsPace: boolean): void {
    this.fetcher.consumerChunk = Math.floor(nextByte / CHUNK_SIZE_BYTES);
    if (!setsPace || nextByte >= this.sizeBytes) this.#context.pace.end(this.keyId);
    else this.#context.pace.setConsumer(this.keyId, nextByte > 0);
  }

  /** Where chunks may be asked for or read: they are chosen at random up to there, but not far ahead of a consumer that sets the pace. */
  windowEnd(): number {
    return Math.min(
      this.ledger.windowEnd(this.#context.limits.windowChunks),
      this.fetcher.consumerChunk + this.aheadChunks,
    );
  }

  /** How far ahead of its consumer the blob may be fetched now. */
  get aheadChunks(): number {
    return this.#context.pace.aheadChunks(this.keyId, this.fetcher.isConsumerHungry);
  }

  /** Whether the consumer has to come further before anything more is fetched. */
  get isSated(): boolean {
    return this.ledger.missingCount > 0 && this.ledger.held.firstMissing() >= this.windowEnd();
  }

  /** Chunks of it have been asked of a peer, or are being read at the origin. */
  get isUnderWay(): boolean {
    return this.origin.isReading || this.fetcher.hasRequests;
  }

  /** Sends what can be sent now. Called after every input that may have changed something. */
  pump(nowMs: number): void {
    if (!this.isPulling) return;
    if (!this.isOriginOnly) this.#resumeAtMs = this.fetcher.pump(nowMs) ?? Number.POSITIVE_INFINITY;
    this.plan();
  }

  handleTimeout(nowMs: number): void {
    if (nowMs >= this.followers.dueMs) this.followers.tell(nowMs);
    if (this.isPulling && nowMs >= this.#tickAtMs) this.#tick(nowMs);
    if (!this.isOriginOnly) this.directories.handleTimeout(nowMs);
    this.pump(nowMs);
    this.plan();
  }

  handleConnected(peer: PeerId, nowMs: number): void {
    this.neighbours.handleConnected(peer, nowMs);
    this.directories.handleConnected(peer, nowMs);
    this.plan();
  }

  handleDisconnected(peer: PeerId, nowMs: number): void {
    this.followers.delete(peer);
    this.fetcher.dropPeer(peer);
    this.neighbours.drop(peer, nowMs, 0);
    this.directories.handleDisconnected(peer, nowMs);
    this.plan();
  }

  handleDirectory(peer: PeerId, message: Message<'directory'>, nowMs: number): void {
    if (this.isOriginOnly || !this.directories.handleAnswer(peer, nowMs)) return;
    if (this.trust.learnFromDirectory(message.hashes, nowMs)) this.#pullAgain(nowMs);
    if (!this.isPulling) return;
    this.neighbours.learnHolders(message.holders);
    this.#upkeep(nowMs);
    const lacksHash = this.fetcher.imports.learn(message, nowMs);
    const source = message.holders[0]?.peer;
    // The directory does not know the hash: the source's bitmap tells it.
    if (lacksHash && source !== undefined) this.neighbours.followFar(source, nowMs);
    const isOfChoice = this.directories.isOfChoice(peer);
    if (!isOfChoice) this.directories.refuseLeases(peer, message.leases);
    else if (message.leases.length > 0 || message.imports.length === 0)
      this.origin.handleLeases(message.leases, nowMs);
    this.plan();
  }

  handleFollow(peer: PeerId, message: Message<'follow'>, nowMs: number): void {
    const isMismatch = message.sizeBytes !== this.sizeBytes || this.isOriginOnly;
    if (isMismatch || !this.followers.admit(peer)) {
      this.#context.send(peer, { kind: 'refuse', key: this.key, retryAfterMs: REFUSED_PAUSE_MS });
      return;
    }
    if (this.isPulling) this.neighbours.followBack(peer, nowMs);
  }

  handleRefuse(peer: PeerId, message: Message<'refuse'>, nowMs: number): void {
    this.neighbours.drop(
      peer,
      nowMs,
      Math.min(this.#context.limits.backOffMinMs, Math.max(0, message.retryAfterMs)),
    );
    this.#upkeep(nowMs);
  }

  handleBitmap(peer: PeerId, message: Message<'bitmap'>, nowMs: number): void {
    const neighbour = this.neighbours.becomeLive(peer, message.held, nowMs);
    if (neighbour === undefined) return;
    this.#context.peers.succeeded(peer);
    this.trust.learnClaims(peer, message.hashes, nowMs);
  }

  handleHave(peer: PeerId, message: Message<'have'>, nowMs: number): void {
    const neighbour = this.neighbours.get(peer);
    if (neighbour?.state !== 'live') return;
    forEachHash(message.hashes, this.ledger.chunkCount, (chunk) => this.neighbours.gain(neighbour, chunk));
    this.trust.learnClaims(peer, message.hashes, nowMs);
  }

  handleDepart(peer: PeerId): void {
    this.followers.delete(peer);
    this.fetcher.dropPeer(peer);
    this.neighbours.forget(peer);
  }

  handleStored(arrival: { peer: PeerId; requestId: number; chunk: number }, nowMs: number): void {
    if (this.ledger.hashes[arrival.chunk] === undefined || this.isOriginOnly) return;
    const isNew = this.fetcher.handleStored(arrival.peer, arrival.requestId, arrival.chunk, nowMs);
    if (!isNew) return;
    this.origin.handlePeerChunk();
    const hash = this.ledger.hashes[arrival.chunk];
    if (this.fetcher.imports.end(arrival.chunk) && hash !== undefined)
      this.directories.publish({ firstChunk: arrival.chunk, hashes: [hash] });
    this.#gained(arrival.chunk, nowMs);
  }

  handleOriginChunk(chunk: number, hash: ChunkHash, nowMs: number): void {
    if (chunk < 0 || chunk >= this.ledger.chunkCount) return;
    if (this.trust.learnFromOrigin(chunk, hash, nowMs)) this.#pullAgain(nowMs);
    this.origin.handleChunk(chunk, nowMs);
    if (!this.isOriginOnly) this.directories.publish({ firstChunk: chunk, hashes: [hash] });
    if (this.ledger.hold(chunk, undefined)) this.#gained(chunk, nowMs);
  }

  /** Has nothing to do with the peer any longer. */
  dropPeer(peer: PeerId, nowMs: number): void {
    this.fetcher.dropPeer(peer);
    this.neighbours.drop(peer, nowMs, this.#context.limits.banMs);
    this.followers.delete(peer);
  }

  /** Whether a neighbour of this zone has the chunk. */
  isOffered(chunk: number): boolean {
    if (this.ledger.hashes[chunk] === undefined) return false;
    for (const { isFar, state, available } of this.neighbours.values())
      if (!isFar && state === 'live' && available.has(chunk)) return true;
    return false;
  }

  /** Whether the pull began so lately that others who take part may not be known yet. */
  isYoung(nowMs: number): boolean {
    return nowMs - this.#pullingSinceMs < NOBODY_MS;
  }

  /**
   * Where an origin lease is of use: from the first missing chunk to the end of the window, whatever is held in between; and
   * behind it as far as the consumer's pace allows, so that who is ahead of the others is not left to read the rest alone.
   */
  leaseWindows(): ChunkRun[] {
    const first = this.ledger.held.firstMissing();
    const end = this.windowEnd();
    const farEnd = Math.min(this.ledger.chunkCount, this.fetcher.consumerChunk + this.aheadChunks);
    const windows = [
      { firstChunk: first, chunkCount: end - first },
      { firstChunk: end, chunkCount: farEnd - end },
    ];
    return windows.filter(({ chunkCount }) => chunkCount > 0);
  }

  #tick(nowMs: number): void {
    this.#tickAtMs = nowMs + TICK_MS;
    if (this.isSated) this.#rest(nowMs);
    this.#watchStall(nowMs);
    this.origin.tick(nowMs);
    if (this.isOriginOnly) return;
    if (this.#isCutOff(nowMs)) this.#beginAfresh(nowMs);
    this.#reviewImports(nowMs);
    this.fetcher.tick(nowMs);
    this.#upkeep(nowMs);
    if (this.neighbours.knownCount === 0 && nowMs - this.#pullingSinceMs >= NOBODY_MS)
      this.directories.askOthers(nowMs);
    if (this.directories.isWindowStale) this.directories.announceWithin(WINDOW_TOLD_MS, nowMs);
    if (this.neighbours.needsHolders && this.neighbours.knownCount >= this.#context.limits.smallSwarm / 2) {
      this.directories.announceWithin(HOLDERS_WANTED_MS, nowMs);
    }
  }

  /** Nothing comes because nothing is asked for. */
  #rest(nowMs: number): void {
    this.#gainedMs = nowMs;
    this.#context.lastChunkMs = nowMs;
  }

  #upkeep(nowMs: number): void {
    this.neighbours.upkeep(this.ledger.held, this.isSated, nowMs);
  }

  #watchStall(nowMs: number): void {
    const { requests, budget } = this.#context;
    const isReading = this.origin.isReading && !budget.isWaiting(this.origin);
    this.stall.handleTick(
      { hasOpen: this.fetcher.hasOpen, hasRequests: requests.live > 0, isReading },
      nowMs,
    );
  }

  /** Nothing has come for long, and this node may not help itself at the origin. */
  #isCutOff(nowMs: number): boolean {
    const { requests, limits } = this.#context;
    const isIdle = requests.live === 0 && nowMs - this.#gainedMs >= limits.starvedMs;
    return isIdle && !this.origin.mayRead(nowMs);
  }

  #beginAfresh(nowMs: number): void {
    this.#gainedMs = nowMs;
    this.trust.beginAfresh();
    this.neighbours.beginAfresh();
    this.directories.announceSoon(nowMs);
  }

  #reviewImports(nowMs: number): void {
    this.fetcher.imports.expire(nowMs);
    const isStuck = this.stall.stalledMs(nowMs) >= CROSS_AFTER_MS && this.#context.prng.chance(1, CROSS_ODDS);
    const isAlone = this.neighbours.isAloneInZone && nowMs - this.#pullingSinceMs >= CROSS_AFTER_MS;
    this.fetcher.mayCross = isAlone || isStuck;
    if (isStuck) this.neighbours.crossOver(nowMs);
  }

  #gained(chunk: number, nowMs: number): void {
    this.#context.lastChunkMs = nowMs;
    this.#gainedMs = nowMs;
    this.followers.gained(chunk, nowMs);
    this.plan();
    if (this.ledger.held.isFull && this.isPulling) this.#completed(nowMs);
  }

  #completed(nowMs: number): void {
    this.isPulling = false;
    this.#tickAtMs = Number.POSITIVE_INFINITY;
    this.#resumeAtMs = Number.POSITIVE_INFINITY;
    this.ledger.trustAll();
    this.fetcher.dropAll();
    this.neighbours.unfollowAll();
    this.#context.emit({ kind: 'complete', key: this.key });
    if (!this.isOriginOnly) this.directories.announceSoon(nowMs);
    this.plan();
  }

  /** What was complete has lost chunks whose hashes proved wrong. */
  #pullAgain(nowMs: number): void {
    if (this.isPulling) return;
    this.isPulling = true;
    this.#tickAtMs = nowMs;
    this.directories.announceSoon(nowMs);
    this.plan();
  }

  /** Finds out when `handleTimeout` is due. */
  plan(): void {
    // Who reads the origin alone has no business with directories, whatever becomes of them.
    const directoriesDueMs = this.isOriginOnly ? Number.POSITIVE_INFINITY : this.directories.dueMs;
    this.dueMs = Math.min(this.followers.dueMs, this.#tickAtMs, this.#resumeAtMs, directoriesDueMs);
    this.#context.wakeMs = Math.min(this.#context.wakeMs, this.dueMs);
    if (this.isPulling) this.#context.pulling.add(this);
    else this.#context.pulling.delete(this);
  }
}
