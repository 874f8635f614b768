import type { PeerId } from './messages.ts';
import type { SwarmContext } from './swarm-context.ts';

/** Best nodes by rendezvous hash of the host's name. Three survive two failures, as with directories. */
const CANDIDATES = 3;
/** How long until a candidate that fell silent is asked a question, ms: longer each time. */
const MUTE_MIN_MS = 10_000;
const MUTE_MAX_MS = 300_000;

/** Who may keep the budget of one registry host, as one node sees it. The order is the same for all nodes, whoever they know of. */
export class BudgetKeepers {
  readonly #context: SwarmContext;
  readonly #host: string;
  #ranking: readonly PeerId[] = [];
  readonly #muted = new Map<PeerId, { readonly untilMs: number; readonly forMs: number }>();

  constructor(context: SwarmContext, host: string) {
    this.#context = context;
    this.#host = host;
    this.refresh();
  }

  get isCandidate(): boolean {
    return this.#ranking.includes(this.#context.self);
  }

  refresh(): void {
    const { self, peers } = this.#context;
    this.#ranking = peers.members.rank(this.#host, self, CANDIDATES);
    for (const peer of this.#muted.keys()) if (!this.#ranking.includes(peer)) this.#muted.delete(peer);
  }

  /** The best candidate that can be talked to, this node where that is none; undefined while one is being dialled. */
  choose(isKeeping: boolean, nowMs: number): PeerId | undefined {
    const { self, peers } = this.#context;
    for (const peer of this.#ranking) {
      if (peer === self) return self;
      if (!peers.isUsable(peer, nowMs)) continue;
      const isThere = peers.reach(peer, nowMs);
      if (this.#isMuted(peer, nowMs)) continue;
      if (isThere) return peer;
      // Who keeps the budget goes on with it until a better one is there.
      if (!isKeeping) return undefined;
    }
    return self;
  }

  /** Connects to those that come after this node: one that kept the budget until now sees that it is not the best one any longer. */
  showSelf(nowMs: number): void {
    const { self, peers } = this.#context;
    for (const peer of this.#ranking.slice(this.#ranking.indexOf(self) + 1)) peers.reach(peer, nowMs);
  }

  /** It has not answered: it is passed over until it does. */
  mute(peer: PeerId, nowMs: number): void {
    const forMs = Math.min(MUTE_MAX_MS, (this.#muted.get(peer)?.forMs ?? MUTE_MIN_MS / 2) * 2);
    this.#muted.set(peer, { untilMs: nowMs + forMs, forMs });
  }

  heard(peer: PeerId): void {
    this.#muted.delete(peer);
  }

  /** Asks whether anybody waits there, which also shows whether it answers. */
  probe(peer: PeerId): void {
    const probe = { kind: 'askBudget', host: this.#host, number: 0, bytes: 0, requests: 0 } as const;
    this.#context.send(peer, { ...probe, isMoving: false });
  }

  /** Nobody waits for a candidate that fell silent: from time to time it is asked whether it is back. */
  #isMuted(peer: PeerId, nowMs: number): boolean {
    const muted = this.#muted.get(peer);
    if (muted === undefined) return false;
    if (nowMs >= muted.untilMs) {
      this.mute(peer, nowMs);
      this.probe(peer);
    }
    return true;
  }
}
