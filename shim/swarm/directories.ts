import type { BlobSwarm } from './blob-swarm.ts';
import { runsWithin } from './hash-runs.ts';
import type { ChunkRun, HashRun, PeerId } from './messages.ts';
import type { SwarmContext } from './swarm-context.ts';

/** A connected directory that leaves an announce unanswered for this long is passed over, ms. */
const SILENT_MS = 2_000;
/** How long a silent directory is passed over, ms. */
const MUTE_MS = 10_000;
/** How soon directories that could not be reached are tried again, ms. */
const RETRY_MS = 250;
/** Same for a blob that is only served, ms. */
const RETRY_IDLE_MS = 10_000;
/** The directory is told of a window that moved by this part of itself. */
const WINDOW_STALE_PART = 4;
const JITTER_PERCENT = 20;

/** The client side of the directory of one blob: whom to announce to, and when. */
export class Directories {
  readonly #context: SwarmContext;
  readonly #blob: BlobSwarm;
  #ranking: readonly PeerId[] = [];
  readonly #mutedUntilMs = new Map<PeerId, number>();
  #announceAtMs = Number.POSITIVE_INFINITY;
  #lastAnnounceMs = Number.NEGATIVE_INFINITY;
  /** The directory that was announced to last, and still knows of it as far as is known here. */
  #told: PeerId | undefined;
  /** When a node that only serves looks whether a better directory than `#told` is back. */
  #betterAtMs = Number.POSITIVE_INFINITY;
  #othersAskedMs = Number.NEGATIVE_INFINITY;
  #toldWindowEnd = 0;
  /** Announce that waits for its answer. */
  #awaiting: { readonly peer: PeerId; readonly sinceMs: number } | undefined;
  /** Set while no directory can be reached. */
  lostSinceMs: number | undefined;

  constructor(context: SwarmContext, blob: BlobSwarm) {
    this.#context = context;
    this.#blob = blob;
  }

  get dueMs(): number {
    const answerMs =
      this.#awaiting === undefined ? Number.POSITIVE_INFINITY : this.#awaiting.sinceMs + SILENT_MS;
    return Math.min(this.#announceAtMs, answerMs, this.#betterAtMs);
  }

  /** Whether somebody has to be told: another node is now the best directory, or the one that was told is none any more. */
  refreshRanking(): boolean {
    const { self, peers, limits } = this.#context;
    const before = this.#ranking[0];
    this.#ranking = peers.members.rank(this.#blob.keyId, self, limits.directoriesPerBlob);
    if (this.#told !== undefined && !this.#ranking.includes(this.#told)) this.#told = undefined;
    return this.#ranking[0] !== before || this.#told === undefined;
  }

  announceSoon(nowMs: number): void {
    const isLocal = this.#ranking[0] === this.#context.self;
    const earliestMs = isLocal ? nowMs : this.#lastAnnounceMs + this.#context.limits.announceGapMs;
    this.#announceAtMs = Math.min(this.#announceAtMs, Math.max(nowMs, earliestMs));
  }

  /** Announces when the last announce is this long ago. */
  announceWithin(gapMs: number, nowMs: number): void {
    this.#announceAtMs = Math.min(this.#announceAtMs, Math.max(nowMs, this.#lastAnnounceMs + gapMs));
  }

  handleTimeout(nowMs: number): void {
    const awaiting = this.#awaiting;
    if (awaiting !== undefined && nowMs >= awaiting.sinceMs + SILENT_MS) {
      this.#context.note('directorySilent', awaiting.peer, this.#blob.key, '');
      this.#mutedUntilMs.set(awaiting.peer, nowMs + MUTE_MS);
      this.#awaiting = undefined;
      this.#announceAtMs = nowMs;
    }
    if (nowMs >= this.#announceAtMs) this.#announce(nowMs);
    else if (nowMs >= this.#betterAtMs) this.#seekBetter(nowMs);
  }

  /** False when this peer was not asked: only directories of our own choice are believed. */
  handleAnswer(peer: PeerId, nowMs: number): boolean {
    if (!this.#ranking.includes(peer) && peer !== this.#context.self) return false;
    if (this.#awaiting?.peer === peer) this.#awaiting = undefined;
    if (peer !== this.#context.self || this.#ranking.includes(peer)) this.lostSinceMs = undefined;
    this.#mutedUntilMs.delete(peer);
    this.#announceAtMs = Math.min(this.#announceAtMs, nowMs + this.#intervalMs());
    return true;
  }

  /** Whether this is the directory that leases are asked of. */
  isOfChoice(peer: PeerId): boolean {
    return peer === this.#told;
  }

  /**
   * The directory of choice knows nobody who has the blob. It may have restarted, or be this very node: holders that
   * announced themselves elsewhere meanwhile are known to the other directories. No leases are asked of those.
   */
  askOthers(nowMs: number): void {
    if (nowMs < this.#othersAskedMs + this.#context.limits.announceIntervalMs / 2) return;
    this.#othersAskedMs = nowMs;
    for (const peer of this.#ranking) {
      if (peer === this.#told) continue;
      if (peer === this.#context.self || this.#context.peers.reach(peer, nowMs)) this.#send(peer, 0);
    }
  }

  handleConnected(peer: PeerId, nowMs: number): void {
    if (!this.#ranking.includes(peer)) return;
    if (!this.#blob.isPulling && !this.#isBetter(peer)) return;
    this.announceSoon(nowMs);
    const wasWanted =
      this.#blob.neighbours.knownCount === 0 && this.#othersAskedMs > Number.NEGATIVE_INFINITY;
    if (this.#blob.isPulling && wasWanted && peer !== this.#told) this.#send(peer, 0);
  }

  handleDisconnected(peer: PeerId, nowMs: number): void {
    if (this.#awaiting?.peer === peer) this.#awaiting = undefined;
    if (this.#told === peer) this.#told = undefined;
    const isTold = !this.#blob.isPulling && this.#told !== undefined;
    if (this.#ranking.includes(peer) && !isTold) this.announceSoon(nowMs);
  }

  publish(hashes: HashRun): void {
    for (const peer of this.#ranking)
      this.#context.send(peer, { kind: 'publish', key: this.#blob.key, hashes });
    if (this.lostSinceMs !== undefined && !this.#ranking.includes(this.#context.self)) {
      this.#context.send(this.#context.self, { kind: 'publish', key: this.#blob.key, hashes });
    }
  }

  /** Gives back what a directory granted that is no longer, or not yet, asked for leases. */
  refuseLeases(peer: PeerId, leases: readonly ChunkRun[]): void {
    for (const run of runsWithin(leases, this.#blob.ledger.chunkCount, this.#context.limits.leasesPerNode))
      this.#context.send(peer, { kind: 'returnLease', key: this.#blob.key, run, retryAfterMs: 0 });
  }

  returnLease(run: { firstChunk: number; chunkCount: number }, retryAfterMs: number): void {
    const message = { kind: 'returnLease', key: this.#blob.key, run, retryAfterMs } as const;
    for (const peer of new Set([...this.#ranking, this.#context.self])) this.#context.send(peer, message);
  }

  depart(): void {
    for (const peer of new Set([...this.#ranking, this.#context.self])) {
      this.#context.send(peer, { kind: 'depart', key: this.#blob.key });
    }
    this.#announceAtMs = Number.POSITIVE_INFINITY;
    this.#betterAtMs = Number.POSITIVE_INFINITY;
    this.#awaiting = undefined;
    this.#told = undefined;
  }

  #announce(nowMs: number): void {
    const peer = this.#choose(nowMs);
    if (peer === undefined) {
      this.#announceAtMs = nowMs + (this.#blob.isPulling ? RETRY_MS : RETRY_IDLE_MS);
      return;
    }
    this.#announceTo(peer, nowMs);
  }

  #announceTo(peer: PeerId, nowMs: number): void {
    const { self, limits } = this.#context;
    this.#lastAnnounceMs = nowMs;
    // Two directories that know nothing of each other's leases would have the same chunks read twice.
    if (this.#told !== undefined && this.#told !== peer) this.#send(this.#told, 0);
    this.#told = peer;
    const seeks = !this.#blob.isPulling && peer !== this.#ranking[0];
    this.#betterAtMs = seeks ? nowMs + limits.announceIntervalMs : Number.POSITIVE_INFINITY;
    if (peer !== self) this.#awaiting ??= { peer, sinceMs: nowMs };
    this.#announceAtMs = nowMs + this.#send(peer, this.#blob.origin.leasesToAsk(nowMs));
  }

  /** Who pulls asks the best directory first, and so must find there who serves. */
  #seekBetter(nowMs: number): void {
    this.#betterAtMs = nowMs + this.#context.limits.announceIntervalMs;
    for (const peer of this.#ranking) {
      if (!this.#isBetter(peer)) return;
      if (nowMs < (this.#mutedUntilMs.get(peer) ?? 0) || !this.#context.peers.reach(peer, nowMs)) continue;
      this.#announceTo(peer, nowMs);
      return;
    }
  }

  #isBetter(peer: PeerId): boolean {
    const told = this.#told;
    return told === undefined || this.#ranking.indexOf(peer) < this.#ranking.indexOf(told);
  }

  /** Whether the window has moved on by so much that the directory should hear of it: it grants leases in there first. */
  get isWindowStale(): boolean {
    const windowChunks = Math.min(this.#context.limits.windowChunks, this.#blob.aheadChunks);
    return this.#blob.windowEnd() - this.#toldWindowEnd >= windowChunks / WINDOW_STALE_PART;
  }

  /** Any node answers, also one that is not among the best for the key. Returns when the next announce is due, ms. */
  #send(peer: PeerId, leasesWanted: number): number {
    const { ledger, isPulling } = this.#blob;
    const { limits, zone } = this.#context;
    const intervalMs = this.#intervalMs();
    this.#toldWindowEnd = this.#blob.windowEnd();
    this.#context.send(peer, {
      kind: 'announce',
      key: this.#blob.key,
      sizeBytes: this.#blob.sizeBytes,
      chunksHeld: ledger.held.count,
      complete: ledger.held.isFull,
      leasesWanted,
      missing: isPulling ? this.#blob.leaseWindows() : [],
      held: ledger.held.toBytes(),
      leased: this.#blob.origin.unreadRuns(),
      ttlMs: intervalMs * limits.announceTtlIntervals,
      zone,
    });
    return intervalMs;
  }

  /** The best directory that can be talked to now; undefined while a better one is being dialled or none is left. */
  #choose(nowMs: number): PeerId | undefined {
    const { self, peers } = this.#context;
    let isLost = true;
    for (const peer of this.#ranking) {
      if (peer === self) {
        this.lostSinceMs = undefined;
        return self;
      }
      if (nowMs < (this.#mutedUntilMs.get(peer) ?? 0)) continue;
      // Another one would know nothing of leases and holders, and have all read again.
      if (peers.isHearing(peer, nowMs)) return peer;
      if (!peers.isUsable(peer, nowMs)) continue;
      if (peers.reach(peer, nowMs)) return peer;
      isLost = false;
      break;
    }
    if (isLost) this.lostSinceMs ??= nowMs;
    return undefined;
  }

  #intervalMs(): number {
    const { announceIntervalMs, announceCompleteIntervalMs } = this.#context.limits;
    const intervalMs = this.#blob.isPulling ? announceIntervalMs : announceCompleteIntervalMs;
    return Math.round(this.#context.prng.jitter(intervalMs, JITTER_PERCENT));
  }
}
