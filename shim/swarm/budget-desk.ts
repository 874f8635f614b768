import { type BudgetAmount, BudgetBucket, grantBytesMax, type OriginLimits } from './budget-bucket.ts';
import { BudgetKeepers } from './budget-keepers.ts';
import type { PeerId, PeerMessage } from './messages.ts';
import type { SwarmContext } from './swarm-context.ts';

type AskBudget = Extract<PeerMessage, { kind: 'askBudget' }>;
type GrantBudget = Extract<PeerMessage, { kind: 'grantBudget' }>;

interface Ask extends BudgetAmount {
  readonly peer: PeerId;
  readonly number: number;
  expiresMs: number;
  /** Set when it is noted that it was not granted at once. */
  hasWaited: boolean;
}

/** The ask that this node has sent on. */
interface Upstream {
  readonly peer: PeerId;
  readonly number: number;
  sentMs: number;
  isAnswered: boolean;
}

/** Askers in one queue: a node of the largest cluster each. */
const ASKERS_MAX = 8192;
/** Requests that one grant allows at most. */
const GRANT_REQUESTS_MAX = 16;
/** Who waits tells that it still does this often, and is forgotten after missing that twice, ms. */
const AGAIN_MS = 3_000;
const ASK_TTL_MS = 10_000;
/** A keeper that does not answer for this long is passed over, ms: shorter than any stall limit. */
const SILENT_MS = 2_000;
/** How soon candidates that could not be reached are tried again, ms. */
const RETRY_MS = 250;
/** A keeper that takes over listens this long before it grants, ms: others may not yet know. */
const LISTEN_MS = 1_000;
/** A grant of another keeper so long ago still counts within the 10 s over which limits are judged, ms. */
const MOVE_MS = 10_000;
/** How often the keeper is asked whether others wait, and how long its answer holds, ms. */
const PROBE_MS = 2_000;
const PROBE_VALID_MS = 6_000;

/**
 * One registry host's budget as one node sees it: a queue of askers, itself and nodes that think it is the keeper. It is fed
 * by a bucket of its own where no better candidate can be reached, else by what the best one grants. The order of candidates
 * is the same for all nodes, so grants never go in circles, and two nodes keep at once only when they cannot reach each other.
 */
export class BudgetDesk {
  readonly host: string;
  readonly #context: SwarmContext;
  readonly #limits: OriginLimits;
  readonly #onGrant: (grant: BudgetAmount) => void;
  readonly #keepers: BudgetKeepers;
  /** In the order of their turns; one ask a node. */
  readonly #queue = new Map<PeerId, Ask>();
  /** The last ask of each peer that was granted: it may be told again while the grant is on its way. */
  readonly #granted = new Map<PeerId, number>();
  /** Set while this node keeps the budget. */
  #bucket: BudgetBucket | undefined;
  #keepingSinceMs = Number.NEGATIVE_INFINITY;
  #listenUntilMs = Number.NEGATIVE_INFINITY;
  /** How many nodes may do as this one does because they cannot reach a keeper. */
  #share = 1;
  /** Since when anybody has been connected without a gap, as far as was seen while keeping; undefined while nobody is. */
  #connectedSinceMs: number | undefined;
  #upstream: Upstream | undefined;
  #number = 0;
  #lastGrant: { readonly by: PeerId; readonly atMs: number } | undefined;
  #movedMs = Number.NEGATIVE_INFINITY;
  #probedMs = Number.NEGATIVE_INFINITY;
  #shortUntilMs = Number.NEGATIVE_INFINITY;
  #usedMs = Number.NEGATIVE_INFINITY;
  dueMs = Number.POSITIVE_INFINITY;

  constructor(options: {
    readonly context: SwarmContext;
    readonly host: string;
    readonly limits: OriginLimits;
    /** What this node itself may read now. */
    readonly onGrant: (grant: BudgetAmount) => void;
  }) {
    this.#context = options.context;
    this.host = options.host;
    this.#limits = options.limits;
    this.#onGrant = options.onGrant;
    this.#keepers = new BudgetKeepers(options.context, options.host);
  }

  get waitingCount(): number {
    return this.#queue.size;
  }

  /** When somebody last had to do with it, ms. */
  get usedMs(): number {
    return this.#usedMs;
  }

  refreshRanking(): void {
    this.#keepers.refresh();
  }

  /** This node itself wants as much; the next `pump` sees to it. Nothing is wanted when undefined. */
  want(amount: BudgetAmount | undefined): void {
    const { self } = this.#context;
    const hasWaited = this.#queue.get(self)?.hasWaited ?? false;
    if (amount === undefined) this.#queue.delete(self);
    else this.#queue.set(self, { peer: self, number: 0, ...amount, expiresMs: NEVER_MS, hasWaited });
  }

  handleAsk(peer: PeerId, message: AskBudget, nowMs: number): void {
    this.#usedMs = nowMs;
    if (message.isMoving) this.#noteMove(nowMs);
    if (!(message.requests > 0)) {
      this.#answer(peer, 0, this.#isShortHere(nowMs) ? AGAIN_MS : 0);
      return;
    }
    if (this.#granted.get(peer) === message.number) return;
    const known = this.#queue.get(peer);
    if (known?.number === message.number) known.expiresMs = nowMs + ASK_TTL_MS;
    else this.#enqueue(peer, message, nowMs);
    this.pump(nowMs);
    if (this.#granted.get(peer) !== message.number) this.#answer(peer, message.number, AGAIN_MS);
  }

  handleGrant(peer: PeerId, message: GrantBudget, nowMs: number): void {
    this.#keepers.heard(peer);
    if (message.number === 0) {
      this.#shortUntilMs = message.retryAfterMs > 0 ? nowMs + PROBE_VALID_MS : Number.NEGATIVE_INFINITY;
      return;
    }
    const upstream = this.#upstream;
    if (upstream?.peer !== peer || upstream.number !== message.number) return;
    // Only now: what hangs up without an answer, again and again, would each time have this node begin anew, with nothing in hand.
    this.#bucket = undefined;
    if (!(message.requests > 0)) {
      upstream.isAnswered = true;
      this.#noteWait();
      return;
    }
    this.#upstream = undefined;
    this.#lastGrant = { by: peer, atMs: nowMs };
    this.#distribute(message);
    this.pump(nowMs);
  }

  dropPeer(peer: PeerId): void {
    this.#queue.delete(peer);
    this.#granted.delete(peer);
    this.#keepers.heard(peer);
    if (this.#upstream?.peer === peer) this.#upstream = undefined;
  }

  /** Grants what can be granted now, or asks on. */
  pump(nowMs: number): void {
    this.#forgetOld(nowMs);
    this.dueMs = Number.POSITIVE_INFINITY;
    if (this.#queue.size === 0) {
      this.#upstream = undefined;
      return;
    }
    this.#usedMs = nowMs;
    const source = this.#keepers.choose(this.#bucket !== undefined, nowMs);
    if (source === undefined) this.dueMs = nowMs + RETRY_MS;
    else if (source === this.#context.self) this.#keep(nowMs);
    else this.#askOn(source, nowMs);
  }

  /** Whether a blob that makes no progress may just be waiting for its turn, here or at another node. */
  isShort(nowMs: number): boolean {
    this.#usedMs = nowMs;
    if (this.#isShortHere(nowMs)) return true;
    const source = this.#keepers.choose(this.#bucket !== undefined, nowMs);
    if (source === undefined || source === this.#context.self || nowMs < this.#probedMs + PROBE_MS)
      return false;
    this.#probedMs = nowMs;
    this.#keepers.probe(source);
    return false;
  }

  #isShortHere(nowMs: number): boolean {
    return this.#queue.size > 0 || nowMs < this.#shortUntilMs;
  }

  #enqueue(peer: PeerId, { number, bytes, requests }: AskBudget, nowMs: number): void {
    if (!this.#queue.has(peer) && this.#queue.size >= ASKERS_MAX) return;
    this.#queue.set(peer, {
      peer,
      number,
      bytes: clamp(bytes, 0, grantBytesMax(this.#limits)),
      requests: clamp(requests, 1, GRANT_REQUESTS_MAX),
      expiresMs: nowMs + ASK_TTL_MS,
      hasWaited: false,
    });
  }

  #keep(nowMs: number): void {
    this.#upstream = undefined;
    const bucket = this.#bucket ?? this.#begin(nowMs);
    this.#setShare(bucket, nowMs);
    for (const ask of this.#queue.values()) {
      const cost = { bytes: ask.bytes * this.#share, requests: ask.requests * this.#share };
      const readyAtMs = Math.max(this.#listenUntilMs, nowMs);
      const atMs = readyAtMs > nowMs ? readyAtMs : bucket.take(cost, nowMs);
      if (atMs !== undefined) {
        this.dueMs = Math.min(atMs, nowMs + AGAIN_MS);
        this.#noteWait();
        return;
      }
      this.#lastGrant = { by: this.#context.self, atMs: nowMs };
      this.#give(ask, ask);
    }
  }

  /** Takes over with nothing in hand, and a second later, when another node kept the budget a short while ago. */
  #begin(nowMs: number): BudgetBucket {
    this.#bucket = new BudgetBucket(this.#limits);
    this.#keepingSinceMs = nowMs;
    this.#listenUntilMs = nowMs;
    if (this.#isMovingTo(this.#context.self, nowMs) || nowMs < this.#movedMs + MOVE_MS)
      this.#listen(this.#bucket, nowMs);
    this.#context.note('budgetKept', undefined, undefined, this.host);
    this.#keepers.showSelf(nowMs);
    return this.#bucket;
  }

  #noteMove(nowMs: number): void {
    this.#movedMs = nowMs;
    if (this.#bucket !== undefined && nowMs < this.#keepingSinceMs + LISTEN_MS)
      this.#listen(this.#bucket, nowMs);
  }

  #listen(bucket: BudgetBucket, nowMs: number): void {
    bucket.empty(nowMs);
    this.#listenUntilMs = this.#keepingSinceMs + LISTEN_MS;
  }

  /** Who is cut off from all candidates, or from everybody, takes its part alone: all nodes may be so. */
  #setShare(bucket: BudgetBucket, nowMs: number): void {
    const { peers } = this.#context;
    if (peers.connectedCount === 0) this.#connectedSinceMs = undefined;
    else this.#connectedSinceMs ??= nowMs;
    // Peers that hang up at once, as those do by which it is banned, are no company: each change of share begins with nothing in hand.
    const connectedMs = this.#connectedSinceMs === undefined ? 0 : nowMs - this.#connectedSinceMs;
    const isLonely = peers.connectedCount === 0 || (this.#share > 1 && connectedMs < LISTEN_MS);
    const isCutOff = isLonely || !this.#keepers.isCandidate;
    const share = isCutOff ? peers.othersCount + 1 : 1;
    if (share === this.#share) return;
    // Debts were counted in the old share.
    bucket.empty(nowMs);
    this.#share = share;
  }

  #askOn(peer: PeerId, nowMs: number): void {
    if (this.#upstream?.peer !== peer) this.#upstream = undefined;
    const upstream = this.#upstream;
    if (upstream === undefined) {
      this.#number = (this.#number % NUMBER_MAX) + 1;
      this.#upstream = { peer, number: this.#number, sentMs: nowMs, isAnswered: false };
      this.#sendAsk(this.#upstream, nowMs);
    } else if (!upstream.isAnswered && nowMs >= upstream.sentMs + SILENT_MS) {
      this.#context.note('budgetSilent', peer, undefined, this.host);
      this.#keepers.mute(peer, nowMs);
      this.#upstream = undefined;
      this.pump(nowMs);
      return;
    } else if (upstream.isAnswered && nowMs >= upstream.sentMs + AGAIN_MS) this.#sendAsk(upstream, nowMs);
    const { sentMs, isAnswered } = this.#upstream as Upstream;
    this.dueMs = sentMs + (isAnswered ? AGAIN_MS : SILENT_MS);
  }

  /** Asks for as many of those who wait as one grant can serve. */
  #sendAsk(upstream: Upstream, nowMs: number): void {
    const bytesMax = grantBytesMax(this.#limits);
    let [bytes, requests] = [0, 0];
    for (const ask of this.#queue.values()) {
      const isTooMuch = bytes + ask.bytes > bytesMax || requests + ask.requests > GRANT_REQUESTS_MAX;
      if (requests > 0 && isTooMuch) break;
      bytes += ask.bytes;
      requests += ask.requests;
    }
    const { peer, number } = upstream;
    upstream.sentMs = nowMs;
    upstream.isAnswered = false;
    const isMoving = this.#isMovingTo(peer, nowMs);
    this.#context.send(peer, { kind: 'askBudget', host: this.host, number, bytes, requests, isMoving });
  }

  #isMovingTo(peer: PeerId, nowMs: number): boolean {
    const last = this.#lastGrant;
    return last !== undefined && last.by !== peer && nowMs < last.atMs + MOVE_MS;
  }

  /** What nobody here wants any longer is lost: it was meant for now. */
  #distribute(grant: BudgetAmount): void {
    let { bytes, requests } = grant;
    for (const ask of [...this.#queue.values()]) {
      if (!(bytes > 0 && requests > 0)) return;
      const given = { bytes: Math.min(bytes, ask.bytes), requests: Math.min(requests, ask.requests) };
      bytes -= given.bytes;
      requests -= given.requests;
      this.#give(ask, given);
    }
  }

  #give(ask: Ask, { bytes, requests }: BudgetAmount): void {
    const { peer, number } = ask;
    this.#queue.delete(peer);
    if (peer === this.#context.self) {
      this.#onGrant({ bytes, requests });
      return;
    }
    this.#granted.set(peer, number);
    const { host } = this;
    this.#context.send(peer, { kind: 'grantBudget', host, number, bytes, requests, retryAfterMs: 0 });
  }

  #answer(peer: PeerId, number: number, retryAfterMs: number): void {
    const { host } = this;
    this.#context.send(peer, { kind: 'grantBudget', host, number, bytes: 0, requests: 0, retryAfterMs });
  }

  /** For counters: what this node itself reads has to wait. */
  #noteWait(): void {
    const own = this.#queue.get(this.#context.self);
    if (own === undefined || own.hasWaited) return;
    own.hasWaited = true;
    this.#context.note('budgetWait', undefined, undefined, this.host);
  }

  #forgetOld(nowMs: number): void {
    for (const ask of this.#queue.values()) if (nowMs >= ask.expiresMs) this.#queue.delete(ask.peer);
  }
}

/** Numbers of asks go round; 0 is a question without an ask. */
const NUMBER_MAX = 2 ** 32 - 1;
const NEVER_MS = Number.POSITIVE_INFINITY;

function clamp(value: number, min: number, max: number): number {
  return value >= min ? Math.min(max, value) : min;
}
