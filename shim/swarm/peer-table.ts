import type { BanList } from './ban-list.ts';
import type { SwarmLimits } from './limits.ts';
import { MemberSet } from './member-set.ts';
import type { Action, PeerId } from './messages.ts';

/** `idle`: no connection; `dialing`: the driver was asked for one; `connected`: hello passed. */
type PeerState = 'idle' | 'dialing' | 'connected';

interface Peer {
  zone: string;
  state: PeerState;
  dialDeadlineMs: number;
  failures: number;
  backOffMs: number;
  backOffUntilMs: number;
}

/** Who there is, who is connected, and who is left alone for a while after failures. */
export class PeerTable {
  readonly #self: PeerId;
  readonly #limits: SwarmLimits;
  readonly #bans: BanList;
  readonly #emit: (action: Action) => void;
  /** Peers that this node has had to do with; of other members nothing need be remembered. */
  readonly #peers = new Map<PeerId, Peer>();
  readonly #connected = new Set<PeerId>();
  #members = MemberSet.none;

  constructor(options: { self: PeerId; limits: SwarmLimits; bans: BanList; emit: (action: Action) => void }) {
    this.#self = options.self;
    this.#limits = options.limits;
    this.#bans = options.bans;
    this.#emit = options.emit;
  }

  get members(): MemberSet {
    return this.#members;
  }

  /** Members other than this node. */
  get othersCount(): number {
    return this.#members.countWithout(this.#self);
  }

  get connectedCount(): number {
    return this.#connected.size;
  }

  setMembers(members: readonly { readonly peer: PeerId; readonly zone: string }[]): void {
    this.#members = MemberSet.of(members);
    for (const [id, peer] of this.#peers) {
      if (!this.#members.has(id) && peer.state === 'idle') this.#peers.delete(id);
    }
  }

  zoneOf(id: PeerId): string {
    return this.#peers.get(id)?.zone || (this.#members.zoneOf(id) ?? '');
  }

  isConnected(id: PeerId): boolean {
    return this.#connected.has(id);
  }

  /** Whether talking to this peer may be tried now: a member (only those are dialled) or connected, neither banned nor backed off. */
  isUsable(id: PeerId, nowMs: number): boolean {
    if (id === this.#self || this.#bans.isBanned(id, nowMs)) return false;
    const peer = this.#peers.get(id);
    if (peer !== undefined && nowMs < peer.backOffUntilMs) return false;
    return peer?.state === 'connected' || this.#members.has(id);
  }

  /** Whether this peer hears what it is told, also when it is backed off: who is slow with chunks may be quick with messages. */
  isHearing(id: PeerId, nowMs: number): boolean {
    return this.#connected.has(id) && !this.#bans.isBanned(id, nowMs);
  }

  /** Whether messages to this peer go out now; asks the driver to dial when it is usable but not connected. */
  reach(id: PeerId, nowMs: number): boolean {
    if (!this.isUsable(id, nowMs)) return false;
    const peer = this.#ensure(id);
    if (peer.state === 'idle') {
      peer.state = 'dialing';
      peer.dialDeadlineMs = nowMs + this.#limits.answerTimeoutMs;
      this.#emit({ kind: 'dial', peer: id });
    }
    return peer.state === 'connected';
  }

  connected(id: PeerId, zone: string): void {
    const peer = this.#ensure(id);
    this.#connected.add(id);
    peer.state = 'connected';
    peer.zone = zone;
    peer.backOffUntilMs = Number.NEGATIVE_INFINITY;
  }

  /** Whether a connection (not just a dial) was lost. */
  disconnected(id: PeerId, nowMs: number): boolean {
    const peer = this.#peers.get(id);
    if (peer === undefined || peer.state === 'idle') return false;
    const wasConnected = this.#connected.delete(id);
    peer.state = 'idle';
    // A lost connection may be an accident and is tried again soon; a failed dial counts as a failure.
    if (wasConnected) peer.backOffUntilMs = Math.max(peer.backOffUntilMs, nowMs + RECONNECT_PAUSE_MS);
    else this.#backOff(peer, nowMs, this.#limits.dialBackOffMinMs);
    if (!this.#members.has(id)) this.#peers.delete(id);
    return wasConnected;
  }

  /** Dials that nobody answered, a bug or an overload of the driver: treated as failed. */
  expireDials(nowMs: number): void {
    for (const [id, peer] of this.#peers) {
      if (peer.state === 'dialing' && nowMs >= peer.dialDeadlineMs) this.disconnected(id, nowMs);
    }
  }

  /** Counts a failure; whether the peer is now backed off. */
  failed(id: PeerId, nowMs: number): boolean {
    const peer = this.#peers.get(id);
    if (peer === undefined) return false;
    // Requests that were sent together fail together: that is one reason to leave the peer alone, not several.
    if (nowMs < peer.backOffUntilMs) return true;
    peer.failures++;
    if (peer.failures < this.#limits.failuresMax) return false;
    this.#backOff(peer, nowMs, this.#limits.backOffMinMs);
    return true;
  }

  succeeded(id: PeerId): void {
    const peer = this.#peers.get(id);
    if (peer === undefined) return;
    peer.failures = 0;
    peer.backOffMs = 0;
    peer.backOffUntilMs = Number.NEGATIVE_INFINITY;
  }

  ban(id: PeerId, nowMs: number): void {
    this.#bans.ban(id, nowMs);
  }

  pardon(id: PeerId): void {
    this.#bans.pardon(id);
  }

  #backOff(peer: Peer, nowMs: number, minMs: number): void {
    peer.failures = 0;
    peer.backOffMs = Math.min(this.#limits.backOffMaxMs, Math.max(minMs, peer.backOffMs * 2));
    peer.backOffUntilMs = nowMs + peer.backOffMs;
  }

  #ensure(id: PeerId): Peer {
    let peer = this.#peers.get(id);
    if (peer === undefined) {
      peer = {
        zone: '',
        state: 'idle',
        dialDeadlineMs: 0,
        failures: 0,
        backOffMs: 0,
        backOffUntilMs: Number.NEGATIVE_INFINITY,
      };
      this.#peers.set(id, peer);
    }
    return peer;
  }
}

/** A restarted peer listens again after about this long, ms. */
const RECONNECT_PAUSE_MS = 500;
