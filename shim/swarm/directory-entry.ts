import type { BlobKey } from '../base/blob-key.ts';
import { Bitmap } from './bitmap.ts';
import type { ChunkHash, ChunkRun, PeerId } from './messages.ts';
import type { Prng } from './prng.ts';
import { ZoneImports } from './zone-imports.ts';

export interface Participant {
  readonly peer: PeerId;
  zone: string;
  held: Bitmap;
  complete: boolean;
  /** Origin leases it could use besides those that it has. */
  leasesWanted: number;
  /** Where it could use them; empty: anywhere. */
  missing: readonly ChunkRun[];
  expiresMs: number;
  /** No grants until then: it gave a lease back. */
  pausedUntilMs: number;
  /** Chunks that it was given to read so far, without those that it gave back. */
  chunksLeased: number;
  /** How much of the hash log it has been sent. */
  hashCursor: number;
  /** Holders it was told of so far. */
  holdersTold: number;
  rosterIndex: number;
}

export interface Lease {
  readonly peer: PeerId;
  readonly firstChunk: number;
  readonly chunkCount: number;
  remaining: number;
  progressMs: number;
  expiresMs: number;
}

/** What a directory node remembers of one blob. All of it can be lost and is told again within an announce. */
export class DirectoryEntry {
  readonly key: BlobKey;
  readonly sizeBytes: number;
  readonly chunkCount: number;
  readonly participants = new Map<PeerId, Participant>();
  /** The same, for drawing at random. */
  readonly roster: Participant[] = [];
  readonly leases = new Set<Lease>();
  readonly hashes: (ChunkHash | undefined)[];
  /** Chunks in the order in which their hashes became known. */
  readonly hashLog: number[] = [];
  /** Chunks that nobody holds and nobody reads. */
  readonly free: Bitmap;
  readonly zones: ZoneImports;
  readonly #holders: Uint16Array;
  readonly #leaseOf: (Lease | undefined)[];
  /** It only listens until then; undefined until somebody asks for leases. */
  warmUntilMs: number | undefined;
  /** When grants were last held back because another directory had been serving. */
  listenedMs = Number.NEGATIVE_INFINITY;
  pausedUntilMs = Number.NEGATIVE_INFINITY;
  /** Sum of that over all that take part. */
  chunksLeased = 0;
  /** Usual time between two chunks of a lease, ms. */
  chunkGapMs = 0;
  pushAtMs = Number.POSITIVE_INFINITY;
  sweepAtMs = Number.POSITIVE_INFINITY;

  constructor(key: BlobKey, sizeBytes: number, chunkCount: number) {
    this.key = key;
    this.sizeBytes = sizeBytes;
    this.chunkCount = chunkCount;
    this.hashes = new Array(chunkCount).fill(undefined);
    this.free = Bitmap.full(chunkCount);
    this.zones = new ZoneImports(chunkCount);
    this.#holders = new Uint16Array(chunkCount);
    this.#leaseOf = new Array(chunkCount).fill(undefined);
  }

  get dueMs(): number {
    return Math.min(this.pushAtMs, this.sweepAtMs);
  }

  addParticipant(peer: PeerId): Participant {
    const participant: Participant = {
      peer,
      zone: '',
      held: new Bitmap(this.chunkCount),
      complete: false,
      leasesWanted: 0,
      missing: [],
      expiresMs: 0,
      pausedUntilMs: Number.NEGATIVE_INFINITY,
      chunksLeased: 0,
      hashCursor: 0,
      holdersTold: 0,
      rosterIndex: this.roster.length,
    };
    this.participants.set(peer, participant);
    this.roster.push(participant);
    return participant;
  }

  /** So many of those who take part, at random; all of them where there are no more. */
  draw(count: number, prng: Prng): Participant[] {
    const { roster } = this;
    if (roster.length <= count) return prng.shuffle([...roster]);
    const drawn = new Set<Participant>();
    for (let tries = 0; tries < count * 2 && drawn.size < count; tries++) {
      drawn.add(roster[prng.below(roster.length)] as Participant);
    }
    return [...drawn];
  }

  removeParticipant(participant: Participant): void {
    for (const lease of this.leases) if (lease.peer === participant.peer) this.endLease(lease);
    for (const chunk of participant.held.toArray()) this.#dropHolder(chunk, participant);
    this.zones.leave(participant.zone, participant.peer);
    this.participants.delete(participant.peer);
    this.chunksLeased -= participant.chunksLeased;
    const last = this.roster.pop();
    if (last === undefined || last === participant) return;
    this.roster[participant.rosterIndex] = last;
    last.rosterIndex = participant.rosterIndex;
  }

  /** Where the participant is; before it is told what it holds. */
  setZone(participant: Participant, zone: string): void {
    if (participant.zone === zone) return;
    const { held } = participant;
    for (const chunk of held.toArray()) this.zones.drop(participant.zone, chunk);
    this.zones.leave(participant.zone, participant.peer);
    participant.zone = zone;
    this.zones.enter(zone);
    for (const chunk of held.toArray()) this.zones.hold(zone, chunk, participant.peer);
  }

  /** Replaces what the participant holds; its leases progress by what is new. */
  setHeld(participant: Participant, held: Bitmap, nowMs: number): void {
    const before = participant.held;
    participant.held = held;
    for (let word = 0; word < held.words.length; word++) {
      const changed = (held.words[word] as number) ^ (before.words[word] as number);
      if (changed === 0) continue;
      for (let bit = 0; bit < 32; bit++) {
        if (((changed >>> bit) & 1) === 0) continue;
        const chunk = (word << 5) + bit;
        if (held.has(chunk)) this.#addHolder(chunk, participant, nowMs);
        else this.#dropHolder(chunk, participant);
      }
    }
  }

  addHeld(participant: Participant, chunk: number, nowMs: number): void {
    if (participant.held.add(chunk)) this.#addHolder(chunk, participant, nowMs);
  }

  startLease(peer: PeerId, run: ChunkRun, times: { nowMs: number; expiresMs: number }): Lease {
    const lease: Lease = {
      peer,
      ...run,
      remaining: run.chunkCount,
      progressMs: times.nowMs,
      expiresMs: times.expiresMs,
    };
    for (let chunk = run.firstChunk; chunk < run.firstChunk + run.chunkCount; chunk++) {
      this.#leaseOf[chunk] = lease;
      this.free.delete(chunk);
    }
    this.leases.add(lease);
    const participant = this.participants.get(peer);
    if (participant !== undefined) this.#countLeased(participant, run.chunkCount);
    return lease;
  }

  /** What is left of the lease becomes free again. */
  endLease(lease: Lease): void {
    if (!this.leases.delete(lease)) return;
    for (let chunk = lease.firstChunk; chunk < lease.firstChunk + lease.chunkCount; chunk++) {
      if (this.#leaseOf[chunk] !== lease) continue;
      this.#leaseOf[chunk] = undefined;
      if (this.#holders[chunk] === 0) this.free.add(chunk);
    }
  }

  /** Takes chunks out of the peer's leases; whether there were any. */
  releaseRun(peer: PeerId, run: ChunkRun): boolean {
    const participant = this.participants.get(peer);
    let released = false;
    for (let chunk = run.firstChunk; chunk < run.firstChunk + run.chunkCount; chunk++) {
      const lease = this.#leaseOf[chunk];
      if (lease?.peer !== peer) continue;
      this.#leaseOf[chunk] = undefined;
      if (this.#holders[chunk] === 0) this.free.add(chunk);
      lease.remaining--;
      released = true;
      if (participant !== undefined) this.#countLeased(participant, -1);
      if (lease.remaining === 0) this.endLease(lease);
    }
    return released;
  }

  leaseOf(chunk: number): Lease | undefined {
    return this.#leaseOf[chunk];
  }

  #countLeased(participant: Participant, change: number): void {
    participant.chunksLeased += change;
    this.chunksLeased += change;
  }

  #addHolder(chunk: number, participant: Participant, nowMs: number): void {
    this.#holders[chunk] = (this.#holders[chunk] as number) + 1;
    this.free.delete(chunk);
    this.zones.hold(participant.zone, chunk, participant.peer);
    const lease = this.#leaseOf[chunk];
    if (lease === undefined) return;
    this.#leaseOf[chunk] = undefined;
    lease.remaining--;
    if (lease.peer === participant.peer) {
      const tookMs = nowMs - lease.progressMs;
      this.chunkGapMs = this.chunkGapMs === 0 ? tookMs : this.chunkGapMs + (tookMs - this.chunkGapMs) / 8;
      lease.progressMs = nowMs;
    }
    if (lease.remaining === 0) this.endLease(lease);
  }

  #dropHolder(chunk: number, { zone }: Participant): void {
    this.zones.drop(zone, chunk);
    const count = (this.#holders[chunk] as number) - 1;
    this.#holders[chunk] = count;
    if (count === 0 && this.#leaseOf[chunk] === undefined) this.free.add(chunk);
  }
}
