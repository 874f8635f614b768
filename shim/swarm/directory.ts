import { type BlobKey, blobKeyId } from '../base/blob-key.ts';
import { Bitmap } from './bitmap.ts';
import { DirectoryEntry, type Participant } from './directory-entry.ts';
import { forEachHash, hashRunsOf, runsWithin, sameHash } from './hash-runs.ts';
import { type GrantedLease, LeaseGrants } from './lease-grants.ts';
import { BLOB_SIZE_MAX_BYTES, chunkCountOf } from './limits.ts';
import type { Holder, PeerId, PeerMessage } from './messages.ts';
import type { SwarmContext } from './swarm-context.ts';

type Announce = Extract<PeerMessage, { kind: 'announce' }>;
type Publish = Extract<PeerMessage, { kind: 'publish' }>;
type ReturnLease = Extract<PeerMessage, { kind: 'returnLease' }>;

/** One node's trouble with the origin pauses the grants of all for no longer than this, ms: a lie must not stop the swarm. */
const SHARED_PAUSE_MAX_MS = 2_000;
/** Runs of wanted chunks kept per participant. */
const MISSING_RUNS_MAX = 16;
/** An import that is not done by then is given to another node, ms. */
const IMPORT_TTL_MS = 2_000;
/** What was asked for just before that may still come, ms. */
const IMPORT_GRACE_MS = 1_000;
/** Participants looked at to find one of a zone with room for an import. */
const IMPORTER_DRAWS = 64;
const TTL_MIN_MS = 1_000;
/** Grants are held back for those who come from another directory no more often than this, ms: nobody may hold them back for good. */
const LISTEN_GAP_MS = 10_000;
const TTL_MAX_MS = 1_200_000;

/**
 * The directory half of a node: who takes part in a blob, who may read which run at the origin, and what the chunks
 * hash to. Whoever asks gets an answer, also when this node is not among the best of the rendezvous order for the key.
 */
export class Directory {
  readonly #context: SwarmContext;
  readonly #grants: LeaseGrants;
  /** By key and claimed size: a false size makes an entry of its own and harms nobody. */
  readonly #entries = new Map<string, DirectoryEntry>();
  readonly #byKey = new Map<string, Set<DirectoryEntry>>();
  #dueMs = Number.POSITIVE_INFINITY;

  constructor(context: SwarmContext) {
    this.#context = context;
    this.#grants = new LeaseGrants(context);
  }

  get keyCount(): number {
    return this.#entries.size;
  }

  get dueMs(): number {
    return this.#dueMs;
  }

  /** Live leases over all blobs, for checkers and metrics. */
  get leaseCount(): number {
    let count = 0;
    for (const entry of this.#entries.values()) count += entry.leases.size;
    return count;
  }

  handleAnnounce(peer: PeerId, message: Announce, nowMs: number): void {
    const entry = this.#entryFor(message);
    const held = entry && Bitmap.fromBytes(message.held, entry.chunkCount);
    if (entry === undefined || held === undefined) {
      this.#context.faulty(peer, message.key, 'announce');
      return;
    }
    const isNew = !entry.participants.has(peer);
    const participant = entry.participants.get(peer) ?? this.#admit(entry, peer);
    if (participant === undefined) return;
    this.#warmUp(entry, message, nowMs);
    if (isNew) this.#listenAgain(entry, message, nowMs);
    entry.setZone(participant, message.zone);
    participant.complete = held.isFull;
    participant.leasesWanted = clamp(message.leasesWanted, 0, this.#context.limits.leasesPerNode);
    participant.missing = runsWithin(message.missing, entry.chunkCount, MISSING_RUNS_MAX);
    participant.expiresMs = nowMs + clamp(message.ttlMs, TTL_MIN_MS, TTL_MAX_MS);
    entry.setHeld(participant, held, nowMs);
    this.#grants.noteTold(entry, peer, message.leased, nowMs);
    this.#answer(entry, participant, nowMs);
    this.#schedule(entry, nowMs);
  }

  handlePublish(peer: PeerId, message: Publish, nowMs: number): void {
    for (const entry of this.#byKey.get(blobKeyId(message.key)) ?? []) {
      const participant = entry.participants.get(peer);
      if (participant === undefined) continue;
      forEachHash([message.hashes], entry.chunkCount, (chunk, hash) => {
        const lease = entry.leaseOf(chunk);
        const known = entry.hashes[chunk];
        if (known !== undefined && !sameHash(known, hash)) return;
        if (known === undefined) {
          entry.hashes[chunk] = hash;
          entry.hashLog.push(chunk);
        }
        entry.addHeld(participant, chunk, nowMs);
        if (lease?.peer === peer) lease.expiresMs = nowMs + this.#grants.ttlMs(entry);
      });
      this.#schedule(entry, nowMs);
    }
  }

  handleReturn(peer: PeerId, message: ReturnLease, nowMs: number): void {
    for (const entry of this.#byKey.get(blobKeyId(message.key)) ?? []) {
      const participant = entry.participants.get(peer);
      const [run] = runsWithin([message.run], entry.chunkCount, 1);
      if (run === undefined || participant === undefined || !entry.releaseRun(peer, run)) continue;
      const pauseMs = clamp(message.retryAfterMs, 0, this.#context.limits.leaseTtlMaxMs);
      participant.pausedUntilMs = nowMs + pauseMs;
      entry.pausedUntilMs = Math.max(entry.pausedUntilMs, nowMs + Math.min(pauseMs, SHARED_PAUSE_MAX_MS));
      this.#schedule(entry, nowMs);
    }
  }

  handleDepart(peer: PeerId, key: BlobKey, nowMs: number): void {
    for (const entry of this.#byKey.get(blobKeyId(key)) ?? []) this.#remove(entry, peer, nowMs);
  }

  /** A participant that cannot be heard any longer loses its leases at once; it announces itself again when it is back. */
  handleDisconnected(peer: PeerId, nowMs: number): void {
    for (const entry of this.#entries.values()) this.#remove(entry, peer, nowMs);
  }

  handleTimeout(nowMs: number): void {
    if (nowMs < this.#dueMs) return;
    this.#dueMs = Number.POSITIVE_INFINITY;
    for (const entry of this.#entries.values()) {
      if (nowMs >= entry.sweepAtMs) this.#sweep(entry, nowMs);
      if (nowMs >= entry.pushAtMs) this.#push(entry, nowMs);
      if (entry.roster.length === 0) this.#forget(entry);
      else this.#dueMs = Math.min(this.#dueMs, entry.dueMs);
    }
  }

  #entryFor(message: Announce): DirectoryEntry | undefined {
    const { key, sizeBytes } = message;
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || sizeBytes > BLOB_SIZE_MAX_BYTES)
      return undefined;
    const id = entryId(key, sizeBytes);
    const known = this.#entries.get(id);
    if (known !== undefined) return known;
    if (this.#entries.size >= this.#context.limits.directoryKeysMax) return undefined;
    const entry = new DirectoryEntry(key, sizeBytes, chunkCountOf(sizeBytes));
    this.#entries.set(id, entry);
    const siblings = this.#byKey.get(blobKeyId(key)) ?? new Set();
    this.#byKey.set(blobKeyId(key), siblings.add(entry));
    return entry;
  }

  /** Before the first grant: whoever holds or reads chunks already was served by another directory, and so were others. */
  #warmUp(entry: DirectoryEntry, message: Announce, nowMs: number): void {
    if (entry.warmUntilMs !== undefined || message.leasesWanted <= 0) return;
    const { isAlone, limits } = this.#context;
    const meetsSwarm = message.chunksHeld > 0 || message.leased.length > 0 || this.#hasBetter(entry, nowMs);
    entry.warmUntilMs = nowMs + (meetsSwarm && !isAlone ? limits.directoryWarmUpMs : 0);
  }

  /** Who comes with leases had them from another directory, which served others meanwhile: they are about to come as well. */
  #listenAgain(entry: DirectoryEntry, { leased }: Announce, nowMs: number): void {
    if (leased.length === 0 || nowMs < entry.listenedMs + LISTEN_GAP_MS) return;
    entry.listenedMs = nowMs;
    entry.warmUntilMs = Math.max(entry.warmUntilMs ?? 0, nowMs + this.#context.limits.directoryWarmUpMs);
  }

  /** Whether the best directory is there all the same: it was too slow for who asks here, and has granted leases to others. */
  #hasBetter({ key }: DirectoryEntry, nowMs: number): boolean {
    const { self, peers } = this.#context;
    const [best] = peers.members.rank(blobKeyId(key), self, 1);
    return best !== undefined && best !== self && peers.isHearing(best, nowMs);
  }

  #admit(entry: DirectoryEntry, peer: PeerId): Participant | undefined {
    if (entry.roster.length >= this.#context.limits.directoryParticipantsMax) return undefined;
    return entry.addParticipant(peer);
  }

  #answer(entry: DirectoryEntry, participant: Participant, nowMs: number): void {
    // One at once; the next as they are pushed, so that the first comers of a crowd do not take them all. Who had more than
    // others waits: it would have to pass on all of that, and this node itself, which asks without delay, would read most.
    const isDue = participant.chunksLeased * entry.roster.length <= entry.chunksLeased;
    this.#send(entry, participant, this.#grants.grant(entry, participant, isDue ? 1 : 0, nowMs));
  }

  #send(
    entry: DirectoryEntry,
    participant: Participant,
    leases: readonly GrantedLease[],
    granted?: { readonly source: Holder; readonly imports: readonly GrantedLease[] },
  ): void {
    const countMax = this.#context.limits.hashesPerMessageMax;
    const news = entry.hashLog.slice(participant.hashCursor, participant.hashCursor + countMax);
    participant.hashCursor += news.length;
    const hashes = hashRunsOf(
      news.sort((left, right) => left - right),
      entry.hashes,
      countMax,
    );
    const holders = granted
      ? [granted.source]
      : participant.complete
        ? []
        : this.#holdersFor(entry, participant);
    const imports = granted?.imports ?? [];
    const { key } = entry;
    this.#context.send(participant.peer, { kind: 'directory', key, holders, leases, imports, hashes });
  }

  /** A random sample of the asker's zone; of others only where that has few. */
  #holdersFor(entry: DirectoryEntry, asker: Participant): Holder[] {
    const countMax = this.#context.limits.directoryHoldersPerAnswer;
    const drawn = entry.draw(countMax * 3, this.#context.prng).filter((other) => other !== asker);
    const near = drawn.filter((other) => other.zone === asker.zone);
    const far = drawn.filter((other) => other.zone !== asker.zone);
    // What comes from another zone is imported by one node: others need nobody there, unless they are few.
    const farCount = Math.min(far.length, Math.max(0, (countMax >>> 2) - near.length));
    const chosen = [...near.slice(0, countMax - farCount), ...far.slice(0, farCount)];
    asker.holdersTold = Math.max(asker.holdersTold, chosen.length);
    return chosen.map(({ peer, zone, complete }) => ({ peer, zone, complete }));
  }

  /** Plans the next look at the entry: soon when somebody could be told something, else at the next expiry. */
  #schedule(entry: DirectoryEntry, nowMs: number): void {
    const { directoryPushDelayMs, leaseTtlMinMs } = this.#context.limits;
    if (this.#hasNews(entry)) entry.pushAtMs = Math.min(entry.pushAtMs, nowMs + directoryPushDelayMs);
    entry.sweepAtMs = Math.min(
      entry.sweepAtMs,
      nowMs + (entry.leases.size > 0 ? leaseTtlMinMs / 4 : TTL_MIN_MS),
    );
    this.#dueMs = Math.min(this.#dueMs, entry.dueMs);
  }

  #hasNews(entry: DirectoryEntry): boolean {
    if (this.#grants.hasRoom(entry)) return true;
    if (entry.zones.hasWanted) return true;
    return entry.roster.length > 1 && entry.roster.length <= this.#context.limits.smallSwarm;
  }

  #push(entry: DirectoryEntry, nowMs: number): void {
    entry.pushAtMs = Number.POSITIVE_INFINITY;
    const resumesMs = Math.max(entry.warmUntilMs ?? 0, entry.pausedUntilMs);
    if (nowMs < resumesMs && entry.free.count > 0) entry.pushAtMs = resumesMs;
    this.#pushHolders(entry);
    this.#pushImports(entry, nowMs);
    for (let draws = 0; draws < this.#context.limits.leasesPerBlob; draws++) {
      if (!this.#grants.hasRoom(entry)) return;
      const participant = this.#grants.drawWaiting(entry, nowMs);
      const leases = participant === undefined ? [] : this.#grants.grant(entry, participant, 1, nowMs);
      if (participant === undefined || leases.length === 0) return;
      this.#send(entry, participant, leases);
    }
  }

  /** What a zone lacks and another holds is given to one of its nodes to fetch. */
  #pushImports(entry: DirectoryEntry, nowMs: number): void {
    const { zones } = entry;
    if (!zones.hasWanted) return;
    for (const zone of [...zones.zoneNames()]) {
      for (const chunk of this.#context.prng.shuffle(zones.wantedBy(zone))) {
        const importer = this.#drawImporter(entry, zone, chunk);
        const source = zones.sourceOf(zone, chunk);
        if (importer === undefined || source === undefined) break;
        const run = { firstChunk: chunk, chunkCount: 1 };
        zones.start(zone, { peer: importer.peer, run, expiresMs: nowMs + IMPORT_TTL_MS + IMPORT_GRACE_MS });
        const imports = [{ ...run, ttlMs: IMPORT_TTL_MS }];
        this.#send(entry, importer, [], { source: { ...source, complete: false }, imports });
      }
    }
    zones.sweep(nowMs);
    if (zones.hasWanted) entry.pushAtMs = nowMs + this.#context.limits.directoryPushDelayMs;
  }

  #drawImporter(entry: DirectoryEntry, zone: string, chunk: number): Participant | undefined {
    for (let tries = 0; tries < IMPORTER_DRAWS; tries++) {
      const drawn = entry.roster[this.#context.prng.below(entry.roster.length)];
      if (drawn === undefined || drawn.zone !== zone || drawn.held.has(chunk)) continue;
      if (entry.zones.hasRoom(zone, drawn.peer)) return drawn;
    }
    return undefined;
  }

  /** Tells those who know of few holders about the others. */
  #pushHolders(entry: DirectoryEntry): void {
    const enough = Math.min(this.#context.limits.neighboursTarget, entry.roster.length - 1);
    if (entry.roster.length > this.#context.limits.smallSwarm) return;
    for (const participant of entry.roster) {
      if (!participant.complete && participant.holdersTold < enough) this.#send(entry, participant, []);
    }
  }

  #sweep(entry: DirectoryEntry, nowMs: number): void {
    entry.sweepAtMs = entry.zones.sweep(nowMs);
    for (const lease of entry.leases) {
      if (nowMs >= lease.expiresMs) entry.endLease(lease);
      else entry.sweepAtMs = Math.min(entry.sweepAtMs, lease.expiresMs);
    }
    for (const participant of [...entry.roster]) {
      if (nowMs >= participant.expiresMs) entry.removeParticipant(participant);
      else entry.sweepAtMs = Math.min(entry.sweepAtMs, participant.expiresMs);
    }
    if (this.#hasNews(entry)) entry.pushAtMs = Math.min(entry.pushAtMs, nowMs);
  }

  #remove(entry: DirectoryEntry, peer: PeerId, nowMs: number): void {
    const participant = entry.participants.get(peer);
    if (participant === undefined) return;
    entry.removeParticipant(participant);
    if (entry.roster.length === 0) this.#forget(entry);
    else this.#schedule(entry, nowMs);
  }

  #forget(entry: DirectoryEntry): void {
    this.#entries.delete(entryId(entry.key, entry.sizeBytes));
    const siblings = this.#byKey.get(blobKeyId(entry.key));
    siblings?.delete(entry);
    if (siblings?.size === 0) this.#byKey.delete(blobKeyId(entry.key));
  }
}

function entryId(key: BlobKey, sizeBytes: number): string {
  return `${blobKeyId(key)} ${sizeBytes}`;
}

function clamp(value: number, min: number, max: number): number {
  return value >= min ? Math.min(max, value) : min;
}
