import type { BudgetAmount, OriginLimits } from './budget-bucket.ts';
import { BudgetDesk } from './budget-desk.ts';
import { BudgetedReads, type BudgetedRun, type OriginReading } from './budgeted-reads.ts';
import type { ChunkRun, PeerId, PeerMessage } from './messages.ts';
import type { OriginOutcome } from './origin-reader.ts';
import type { SwarmContext } from './swarm-context.ts';

interface HostBudget {
  readonly desk: BudgetDesk;
  readonly reads: BudgetedReads;
}

/** Registry hosts with a budget at one node; peers that name more are told to ask again. */
const HOSTS_MAX = 256;
/** A host that nobody has wanted anything of for this long is forgotten, ms: longer than takeovers are remembered. */
const IDLE_MS = 60_000;
/** What a node that cannot serve an ask says, ms. */
const REFUSED_AGAIN_MS = 10_000;

/**
 * Between what a node wants to read at origins and its reading it: where a limit is set, runs are read in parts, each one
 * granted by the node that keeps the budget of the registry host. Without limits every run is read at once, as a whole.
 */
export class OriginBudget {
  readonly #context: SwarmContext;
  readonly #limits: OriginLimits | undefined;
  readonly #hosts = new Map<string, HostBudget>();
  #isDirty = false;
  dueMs = Number.POSITIVE_INFINITY;

  constructor(context: SwarmContext, limits: OriginLimits | undefined) {
    this.#context = context;
    const isLimited = limits !== undefined && (limits.bytesPerSecond > 0 || limits.requestsPerSecond > 0);
    this.#limits = isLimited ? limits : undefined;
  }

  /** Begins to read, as soon as the budget allows. */
  read(reading: OriginReading, run: ChunkRun): void {
    if (this.#limits === undefined) {
      this.#context.emit({ kind: 'readOrigin', key: reading.key, run });
      return;
    }
    this.#ensure(reading.key.host, this.#limits).reads.add(reading, run);
    this.#isDirty = true;
  }

  cancel({ key, keyId }: OriginReading, run: ChunkRun): void {
    if (this.#limits === undefined) {
      this.#context.emit({ kind: 'cancelOrigin', key, run });
      return;
    }
    const budget = this.#hosts.get(key.host);
    const found = budget?.reads.find(keyId, run);
    if (found !== undefined) this.#drop(budget as HostBudget, found);
  }

  /** A `readOrigin` action ended. Whoever wanted the run hears of it when all its parts have ended, or one has failed. */
  handleEnd(reading: OriginReading, part: ChunkRun, outcome: OriginOutcome, nowMs: number): void {
    if (this.#limits === undefined) {
      reading.handleEnd(part, outcome, nowMs);
      return;
    }
    const budget = this.#hosts.get(reading.key.host);
    const of = budget?.reads.endPart(reading.keyId, part);
    this.#isDirty = true;
    if (budget === undefined || of === undefined || outcome.ok) return;
    this.#drop(budget, of);
    reading.handleEnd(of.run, outcome, nowMs);
  }

  handleMessage(peer: PeerId, message: PeerMessage, nowMs: number): void {
    if (message.kind === 'askBudget') this.#handleAsk(peer, message, nowMs);
    else if (message.kind === 'grantBudget')
      this.#hosts.get(message.host)?.desk.handleGrant(peer, message, nowMs);
    this.#isDirty = true;
  }

  handleMembers(): void {
    for (const { desk } of this.#hosts.values()) desk.refreshRanking();
    this.#isDirty = true;
  }

  handleConnected(): void {
    this.#isDirty = true;
  }

  handleDisconnected(peer: PeerId): void {
    for (const { desk } of this.#hosts.values()) desk.dropPeer(peer);
    this.#isDirty = true;
  }

  /** Whether runs of the blob wait for their turn. */
  isWaiting({ key, keyId }: OriginReading): boolean {
    return this.#hosts.get(key.host)?.reads.isWaiting(keyId) ?? false;
  }

  /** Whether somebody waits for a turn at this host, maybe with what another node needs. */
  isShort(host: string, nowMs: number): boolean {
    if (this.#limits === undefined) return false;
    return this.#ensure(host, this.#limits).desk.isShort(nowMs);
  }

  pump(nowMs: number): void {
    if (!this.#isDirty && nowMs < this.dueMs) return;
    this.#isDirty = false;
    this.dueMs = Number.POSITIVE_INFINITY;
    for (const [host, budget] of this.#hosts) {
      this.#endFinished(budget, nowMs);
      budget.desk.want(budget.reads.next());
      budget.desk.pump(nowMs);
      this.dueMs = Math.min(this.dueMs, budget.desk.dueMs);
      const isIdle = budget.reads.isEmpty && budget.desk.waitingCount === 0;
      if (isIdle && nowMs >= budget.desk.usedMs + IDLE_MS) this.#hosts.delete(host);
    }
  }

  #handleAsk(peer: PeerId, ask: Extract<PeerMessage, { kind: 'askBudget' }>, nowMs: number): void {
    const { host, number, bytes, requests } = ask;
    // Settings may differ while they are being changed: a node without limits has nothing to keep.
    if (this.#limits === undefined) {
      this.#context.send(peer, { kind: 'grantBudget', host, number, bytes, requests, retryAfterMs: 0 });
    } else if (!this.#hosts.has(host) && this.#hosts.size >= HOSTS_MAX) {
      const nothing = { bytes: 0, requests: 0, retryAfterMs: REFUSED_AGAIN_MS };
      this.#context.send(peer, { kind: 'grantBudget', host, number, ...nothing });
    } else this.#ensure(host, this.#limits).desk.handleAsk(peer, ask, nowMs);
  }

  #ensure(host: string, limits: OriginLimits): HostBudget {
    const known = this.#hosts.get(host);
    if (known !== undefined) return known;
    const reads = new BudgetedReads(limits, this.#context.limits.leasesPerNode);
    const onGrant = (grant: BudgetAmount) => this.#begin(made, grant);
    const desk = new BudgetDesk({ context: this.#context, host, limits, onGrant });
    const made: HostBudget = { desk, reads };
    this.#hosts.set(host, made);
    return made;
  }

  #begin({ desk, reads }: HostBudget, grant: BudgetAmount): void {
    const begun = reads.begin(grant);
    if (begun === undefined) return;
    this.#context.emit({ kind: 'readOrigin', key: begun.of.by.key, run: begun.part });
    // The next ask waits at the keeper while this part is read.
    desk.want(reads.next());
  }

  #drop({ reads }: HostBudget, of: BudgetedRun): void {
    for (const run of of.parts) this.#context.emit({ kind: 'cancelOrigin', key: of.by.key, run });
    reads.remove(of);
    this.#isDirty = true;
  }

  #endFinished({ reads }: HostBudget, nowMs: number): void {
    for (const run of reads.finished()) {
      reads.remove(run);
      run.by.handleEnd(run.run, { ok: true }, nowMs);
    }
  }
}
