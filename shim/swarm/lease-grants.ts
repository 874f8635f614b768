import type { DirectoryEntry, Participant } from './directory-entry.ts';
import { runsWithin } from './hash-runs.ts';
import type { ChunkRun, PeerId, PeerMessage } from './messages.ts';
import type { SwarmContext } from './swarm-context.ts';

export type GrantedLease = Extract<PeerMessage, { kind: 'directory' }>['leases'][number];

/** Participants looked at for one pushed lease: enough to find one with few leases, few enough for any swarm. */
const PUSH_DRAWS = 8;
/** Same when nobody among them waits: only few nodes may read the origin at all. */
const PUSH_DRAWS_MOST = 512;
/** Leases at once as soon as a chunk has been read, and when nearly all have. */
const LEASES_LEAST = 16;
/** The same before that, where a chunk takes long, and in swarms up to `smallSwarm`: more would only make the first chunk of each later. */
const LEASES_LEAST_SLOW = 6;
/** Where a chunk takes longer than this at the origin, ms, more reads at once would make it longer still. */
const CHUNK_SLOW_MS = 5_000;

/** The part of a directory that decides who may read which run at the origin. */
export class LeaseGrants {
  readonly #context: SwarmContext;

  constructor(context: SwarmContext) {
    this.#context = context;
  }

  /** How long a lease lasts without progress, ms. */
  ttlMs(entry: DirectoryEntry): number {
    const { leaseTtlFirstMs, leaseTtlMinMs, leaseTtlMaxMs } = this.#context.limits;
    if (entry.chunkGapMs === 0) return leaseTtlFirstMs;
    return Math.min(leaseTtlMaxMs, Math.max(leaseTtlMinMs, 4 * entry.chunkGapMs));
  }

  /** Whether one more lease may be given now, to whomever. */
  hasRoom(entry: DirectoryEntry): boolean {
    return entry.free.count > 0 && entry.leases.size < this.#leasesMax(entry);
  }

  /** What the peer says it reads: its leases last on, and those of another directory count here too, so that nobody gets the same run twice. */
  noteTold(entry: DirectoryEntry, peer: PeerId, leased: readonly ChunkRun[], nowMs: number): void {
    const expiresMs = nowMs + this.ttlMs(entry);
    const { leasesPerNode, leaseChunksAlone } = this.#context.limits;
    // Chunks, not runs: leases that touch are told as one run, and what came from peers meanwhile makes more of them.
    let left = leasesPerNode * 2 * leaseChunksAlone;
    for (const run of runsWithin(leased, entry.chunkCount, left)) {
      const end = run.firstChunk + Math.min(left, run.chunkCount);
      left -= end - run.firstChunk;
      for (let chunk = run.firstChunk; chunk < end; chunk++) {
        const lease = entry.leaseOf(chunk);
        if (lease?.peer === peer) lease.expiresMs = expiresMs;
        if (!entry.free.has(chunk)) continue;
        let count = 1;
        while (chunk + count < end && entry.free.has(chunk + count)) count++;
        entry.startLease(peer, { firstChunk: chunk, chunkCount: count }, { nowMs, expiresMs });
      }
    }
  }

  /** At most `countMax` leases that the participant wants and may have. */
  grant(entry: DirectoryEntry, participant: Participant, countMax: number, nowMs: number): GrantedLease[] {
    const granted: GrantedLease[] = [];
    if (nowMs < (entry.warmUntilMs ?? 0) || nowMs < entry.pausedUntilMs || nowMs < participant.pausedUntilMs)
      return granted;
    while (participant.leasesWanted > 0 && granted.length < countMax && this.hasRoom(entry)) {
      const run = this.#findRun(entry, participant);
      if (run === undefined) break;
      const ttlMs = this.ttlMs(entry);
      entry.startLease(participant.peer, run, { nowMs, expiresMs: nowMs + ttlMs });
      participant.leasesWanted--;
      granted.push({ ...run, ttlMs });
    }
    return granted;
  }

  #findRun(
    entry: DirectoryEntry,
    asker: Participant,
  ): { firstChunk: number; chunkCount: number } | undefined {
    const firstChunk = this.#findFree(entry, asker);
    if (firstChunk === undefined) return undefined;
    const { leaseChunks, leaseChunksAlone } = this.#context.limits;
    const countMax = this.#context.isAlone ? leaseChunksAlone : leaseChunks;
    let chunkCount = 1;
    while (chunkCount < countMax && entry.free.has(firstChunk + chunkCount)) chunkCount++;
    return { firstChunk, chunkCount };
  }

  /**
   * Small swarms read in order, which feeds the consumers. In large ones the asker's front band comes first and then
   * any place in its first window, so that different nodes soon have different things to give.
   */
  #findFree(entry: DirectoryEntry, asker: Participant): number | undefined {
    if (entry.free.count === 0) return undefined;
    const { frontBandChunks, leaseChunks, smallSwarm } = this.#context.limits;
    const windows =
      asker.missing.length > 0 ? asker.missing : [{ firstChunk: 0, chunkCount: entry.chunkCount }];
    const from = windows[0]?.firstChunk ?? 0;
    const front = entry.free.firstPresent(from, from + frontBandChunks);
    if (front !== undefined) return front;
    if (entry.roster.length > smallSwarm) {
      const window = windows[0] as ChunkRun;
      const drawn = window.firstChunk + this.#context.prng.below(window.chunkCount);
      const start = Math.max(window.firstChunk, drawn - (drawn % leaseChunks));
      const found = entry.free.firstPresent(start, window.firstChunk + window.chunkCount);
      if (found !== undefined) return found;
    }
    for (const window of windows) {
      const found = entry.free.firstPresent(window.firstChunk, window.firstChunk + window.chunkCount);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /**
   * Few at first, so that the origin gives whole chunks soon, which the crowd can pass on; more as they spread, for then
   * different nodes have different chunks; fewer again at the end, so that the last chunks do not all come at once.
   */
  #leasesMax(entry: DirectoryEntry): number {
    const { leasesPerBlob, leaseChunks, smallSwarm } = this.#context.limits;
    if (entry.chunkGapMs > CHUNK_SLOW_MS) return LEASES_LEAST_SLOW;
    const most = Math.min(entry.hashLog.length, Math.ceil(entry.free.count / leaseChunks), leasesPerBlob);
    const isSmall = this.#context.peers.othersCount < smallSwarm;
    return Math.max(isSmall || entry.hashLog.length === 0 ? LEASES_LEAST_SLOW : LEASES_LEAST, most);
  }

  /** One of those that wait for a lease and can use what is free, rather one that had few. */
  drawWaiting(entry: DirectoryEntry, nowMs: number): Participant | undefined {
    const draw = (count: number) => this.#leastLeased(entry, entry.draw(count, this.#context.prng), nowMs);
    return draw(PUSH_DRAWS) ?? (entry.roster.length > PUSH_DRAWS ? draw(PUSH_DRAWS_MOST) : undefined);
  }

  #leastLeased(entry: DirectoryEntry, drawn: readonly Participant[], nowMs: number): Participant | undefined {
    let best: Participant | undefined;
    for (const participant of drawn) {
      if (participant.leasesWanted <= 0 || nowMs < participant.pausedUntilMs) continue;
      if (best !== undefined && participant.chunksLeased >= best.chunksLeased) continue;
      if (this.#findFree(entry, participant) !== undefined) best = participant;
    }
    return best;
  }
}
