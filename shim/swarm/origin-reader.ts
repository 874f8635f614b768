import type { BlobKey } from '../base/blob-key.ts';
import type { BlobSwarm } from './blob-swarm.ts';
import type { OriginReading } from './budgeted-reads.ts';
import { chunkRunsOf, runsWithin } from './hash-runs.ts';
import type { ChunkRun, PeerMessage } from './messages.ts';
import type { OriginRun } from './origin-gate.ts';
import { DRAWS_WHEN_STARVED, DRAWS_WITHOUT_HELP, type DrawRule, OwnDraws } from './own-draws.ts';
import type { SwarmContext } from './swarm-context.ts';

type GrantedLeases = Extract<PeerMessage, { kind: 'directory' }>['leases'];

export type OriginOutcome =
  | { readonly ok: true }
  | {
      readonly ok: false;
      /** How long the registry asked to wait, ms. */
      readonly retryAfterMs?: number;
      /** True when no later try of this node can succeed (401, 403, 404). */
      readonly fatal: boolean;
      readonly code: string;
    };

/** Runs read at once by a node that nobody shares with: one is always under way while the next is asked for. */
const RUNS_ALONE = 2;
/** An origin that gives a drawn chunk within this, ms, is not what nobody had any chunks for. */
const QUICK_CHUNK_MS = 5_000;
const PAUSE_MIN_MS = 500;
const PAUSE_MAX_MS = 30_000;

/** What this node reads of one blob at the origin: by lease, or by itself when distrust or loneliness demand it. */
export class OriginReader implements OriginReading {
  readonly #context: SwarmContext;
  readonly #blob: BlobSwarm;
  /** The last announce brought no lease: the directory remembers the wish and will send one. */
  isDry = false;
  #isBarred = false;
  #pausedUntilMs = Number.NEGATIVE_INFINITY;
  #pauseMs = 0;
  readonly #draws: OwnDraws;
  /** Chunks that are read though peers may offer them. */
  readonly #drawn = new Set<number>();
  #probe: { readonly chunk: number; readonly startedMs: number } | undefined;
  /** Nobody had anything to give, the origin does: this node reads on for all, until a peer sends something. */
  #readsOn = false;

  constructor(context: SwarmContext, blob: BlobSwarm) {
    this.#context = context;
    this.#blob = blob;
    this.#draws = new OwnDraws(context.prng);
  }

  get key(): BlobKey {
    return this.#blob.key;
  }

  get keyId(): string {
    return this.#blob.keyId;
  }

  get sizeBytes(): number {
    return this.#blob.sizeBytes;
  }

  get isReading(): boolean {
    return this.#blob.ledger.reading.count > 0;
  }

  /** What came while the run waited for the budget, or is offered by neighbours by now, costs nothing of it. */
  isToBeRead(chunk: number): boolean {
    if (!this.#blob.ledger.reading.has(chunk)) return false;
    return this.#blob.isOriginOnly || this.#drawn.has(chunk) || !this.#blob.isOffered(chunk);
  }

  leaveOut(chunk: number): void {
    if (!this.#blob.ledger.reading.has(chunk)) return;
    this.#blob.ledger.stopReading(chunk);
    this.#blob.directories.returnLease({ firstChunk: chunk, chunkCount: 1 }, 0);
  }

  mayRead(nowMs: number): boolean {
    if (!this.#blob.isPulling || this.#isBarred || nowMs < this.#pausedUntilMs) return false;
    // After wrong bytes only the origin is left, also for a node that leaves reading to others.
    return this.#context.mayReadOrigin || this.#context.isAlone || this.#blob.isOriginOnly;
  }

  /** Whether more leases would be of use now; the node asks its blobs in the order in which they are wanted. */
  wantsLeases(nowMs: number): boolean {
    if (this.#blob.isOriginOnly || !this.mayRead(nowMs) || this.isDry) return false;
    if (this.#context.gate.isAsking(this.#blob.keyId, nowMs)) return false;
    const { ledger } = this.#blob;
    return ledger.missingCount > ledger.reading.count && this.#placesLeft(nowMs) > 0 && !this.#blob.isSated;
  }

  /** How many leases the announce that is being written asks for. */
  leasesToAsk(nowMs: number): number {
    const { gate } = this.#context;
    gate.ask(this.#blob.keyId, 0, nowMs);
    if (!this.mayRead(nowMs) || this.#blob.isSated) return 0;
    const count = this.#placesLeft(nowMs);
    // The directory remembers no wish from now on.
    if (count === 0) this.isDry = false;
    gate.ask(this.#blob.keyId, count, nowMs);
    return count;
  }

  /** What is still to be read of the leases held. */
  unreadRuns(): ChunkRun[] {
    return chunkRunsOf(this.#blob.ledger.reading.toArray());
  }

  handleLeases(leases: GrantedLeases, nowMs: number): void {
    const { gate, limits } = this.#context;
    const wasAsking = gate.isAsking(this.#blob.keyId, nowMs);
    gate.answered(this.#blob.keyId);
    let hasBegun = false;
    for (const run of runsWithin(leases, this.#blob.ledger.chunkCount, limits.leasesPerNode)) {
      if (run.chunkCount > limits.leaseChunksAlone || !gate.hasRoom || !this.mayRead(nowMs)) {
        this.#blob.directories.returnLease(run, 0);
      } else if (this.#startMissing(run)) hasBegun = true;
    }
    // Also when all was given back: the next announce is soon enough for more.
    if (hasBegun) this.isDry = false;
    else if (leases.length > 0 || wasAsking) this.isDry = true;
  }

  handleChunk(chunk: number, nowMs: number): void {
    this.#pauseMs = 0;
    if (chunk === this.#probe?.chunk) this.#readsOn = nowMs - this.#probe.startedMs <= QUICK_CHUNK_MS;
    const run = this.#context.gate.find(this.#blob.keyId, chunk);
    if (run !== undefined && this.#blob.ledger.reading.has(chunk)) run.remaining--;
    this.#blob.ledger.stopReading(chunk);
  }

  /** A peer has something to give after all. */
  handlePeerChunk(): void {
    this.#readsOn = false;
  }

  handleEnd(run: ChunkRun, outcome: OriginOutcome, nowMs: number): void {
    const ended = this.#context.gate.runsOf(this.#blob.keyId).find((other) => isSameRun(other.run, run));
    if (ended === undefined) return;
    const isUnread = this.#release(ended);
    if (outcome.ok && !isUnread) return;
    this.#readsOn = false;
    const pauseMs = this.#failurePause(outcome);
    this.#pausedUntilMs = nowMs + pauseMs;
    if (!outcome.ok && outcome.fatal) this.#isBarred = true;
    this.#context.note('originFailed', undefined, this.#blob.key, outcome.ok ? 'short' : outcome.code);
    if (!this.#blob.isOriginOnly) this.#blob.directories.returnLease(run, Math.round(pauseMs));
  }

  tick(nowMs: number): void {
    if (this.#blob.isOriginOnly) this.#readAlone(nowMs);
    else if (!this.mayRead(nowMs)) return;
    else if (this.#isCutOff(nowMs)) this.#drawForRun(DRAWS_WITHOUT_HELP, () => true, nowMs);
    else if (this.#readsOn) this.#readOn();
    else if (this.#isStarved(nowMs)) this.#probeOrigin(nowMs);
    else if (this.#blob.stall.isStalled(nowMs)) {
      this.#drawForRun(DRAWS_WITHOUT_HELP, (chunk) => this.#blob.ledger.open.has(chunk), nowMs);
    } else if (!this.isReading) this.#draws.reset();
  }

  /** Nothing of the blob is wanted any longer. */
  stop(_nowMs: number): void {
    this.#readsOn = false;
    for (const run of this.#context.gate.runsOf(this.#blob.keyId)) {
      this.#context.budget.cancel(this, run.run);
      this.#release(run);
    }
    this.#context.gate.answered(this.#blob.keyId);
  }

  #placesLeft(nowMs: number): number {
    const available = this.#context.gate.available(this.#placesMax(nowMs), nowMs);
    if (!this.#context.isAlone) return available;
    const own = this.#context.gate.runsOf(this.#blob.keyId).filter((run) => run.remaining > 1).length;
    return Math.min(available, Math.max(0, RUNS_ALONE - own));
  }

  /**
   * The more read at once, the later each has a whole chunk to pass on: the nodes of a small swarm read a few runs together,
   * enough to fill the origin's link over connections of any kind. Large ones have enough to pass on soon.
   */
  #placesMax(nowMs: number): number {
    const { isAlone, peers, limits } = this.#context;
    if (isAlone || peers.othersCount >= limits.smallSwarm) return limits.leasesPerNode;
    const sharers = this.#blob.isYoung(nowMs) ? peers.othersCount + 1 : this.#blob.neighbours.knownCount + 1;
    return Math.min(limits.leasesPerNode, Math.ceil(limits.leasesSmallSwarm / sharers));
  }

  /**
   * Reads what of the run is neither held nor asked of a peer nor offered by one, and gives back the rest: a directory that was
   * away for a while knows of none of it. Tells whether anything is read.
   */
  #startMissing(run: ChunkRun): boolean {
    const { ledger } = this.#blob;
    const wanted: number[] = [];
    const unwanted: number[] = [];
    for (let chunk = run.firstChunk; chunk < run.firstChunk + run.chunkCount; chunk++) {
      (ledger.isIdle(chunk) && !this.#blob.isOffered(chunk) ? wanted : unwanted).push(chunk);
    }
    for (const part of chunkRunsOf(wanted)) this.#start(part);
    for (const part of chunkRunsOf(unwanted)) this.#giveBack(part);
    return wanted.length > 0;
  }

  #giveBack(run: ChunkRun): void {
    if (this.#blob.ledger.reading.has(run.firstChunk)) return;
    this.#blob.directories.returnLease(run, 0);
  }

  #start(run: ChunkRun): void {
    for (let chunk = run.firstChunk; chunk < run.firstChunk + run.chunkCount; chunk++) {
      this.#blob.ledger.startReading(chunk);
    }
    this.#context.gate.start(this.#blob.key, this.#blob.keyId, run);
    this.#context.budget.read(this, run);
  }

  /** Whether chunks of the run were left unread. */
  #release(run: OriginRun): boolean {
    this.#context.gate.end(run);
    let isUnread = false;
    for (let chunk = run.run.firstChunk; chunk < run.run.firstChunk + run.run.chunkCount; chunk++) {
      this.#drawn.delete(chunk);
      if (!this.#blob.ledger.reading.has(chunk)) continue;
      isUnread = true;
      this.#blob.ledger.stopReading(chunk);
    }
    return isUnread;
  }

  #failurePause(outcome: OriginOutcome): number {
    this.#pauseMs = Math.min(PAUSE_MAX_MS, Math.max(PAUSE_MIN_MS, this.#pauseMs * 2));
    const askedMs = outcome.ok ? 0 : (outcome.retryAfterMs ?? 0);
    return this.#context.prng.jitter(Math.min(PAUSE_MAX_MS, Math.max(askedMs, this.#pauseMs)), 20);
  }

  /** The bytes of the swarm proved wrong: everything comes from the origin, in order. */
  #readAlone(nowMs: number): void {
    while (this.mayRead(nowMs) && this.#context.gate.runsOf(this.#blob.keyId).length < RUNS_ALONE) {
      const run = this.#nextRun(0, this.#context.limits.leaseChunksAlone, () => true);
      if (run === undefined) return;
      this.#start(run);
    }
  }

  #isCutOff(nowMs: number): boolean {
    const { lostSinceMs } = this.#blob.directories;
    return lostSinceMs !== undefined && nowMs - lostSinceMs >= this.#context.limits.directoryLostMs;
  }

  /** Not one chunk of any blob for a long time, and nothing asked for or being read: somebody claims what nobody has. */
  #isStarved(nowMs: number): boolean {
    const { requests, gate, lastChunkMs, limits } = this.#context;
    if (requests.live > 0 || gate.isReading || nowMs - lastChunkMs < limits.starvedMs) return false;
    return !this.#context.budget.isShort(this.#blob.key.host, nowMs);
  }

  #drawForRun(rule: DrawRule, isWanted: (chunk: number) => boolean, nowMs: number): ChunkRun | undefined {
    const memberCount = this.#context.peers.othersCount + 1;
    if (!this.#context.gate.hasRoom || !this.#draws.isDrawn(rule, memberCount, nowMs)) return undefined;
    return this.#readFreeRun(Math.min(this.#context.limits.leaseChunks, rule.chunksMax), isWanted);
  }

  /** Large swarms anywhere, so that those that are drawn read different things. */
  #readFreeRun(countMax: number, isWanted: (chunk: number) => boolean): ChunkRun | undefined {
    const { peers, prng, limits } = this.#context;
    const from = peers.othersCount >= limits.smallSwarm ? prng.below(this.#blob.ledger.chunkCount) : 0;
    const run = this.#nextRun(from, countMax, isWanted) ?? this.#nextRun(0, countMax, isWanted);
    if (run === undefined) return undefined;
    for (let index = 0; index < run.chunkCount; index++) this.#drawn.add(run.firstChunk + index);
    this.#start(run);
    return run;
  }

  #probeOrigin(nowMs: number): void {
    const run = this.#drawForRun(DRAWS_WHEN_STARVED, () => true, nowMs);
    if (run !== undefined) this.#probe = { chunk: run.firstChunk, startedMs: nowMs };
  }

  #readOn(): void {
    if (!this.#context.gate.isReading) this.#readFreeRun(this.#context.limits.leaseChunks, () => true);
  }

  #nextRun(from: number, countMax: number, isWanted: (chunk: number) => boolean): ChunkRun | undefined {
    const { ledger } = this.#blob;
    const isFree = (chunk: number) => chunk < ledger.chunkCount && ledger.isIdle(chunk) && isWanted(chunk);
    for (let first = from; first < ledger.chunkCount; first++) {
      if (!isFree(first)) continue;
      let chunkCount = 1;
      while (chunkCount < countMax && isFree(first + chunkCount)) chunkCount++;
      return { firstChunk: first, chunkCount };
    }
    return undefined;
  }
}

function isSameRun(left: ChunkRun, right: ChunkRun): boolean {
  return left.firstChunk === right.firstChunk && left.chunkCount === right.chunkCount;
}
