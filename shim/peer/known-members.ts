import type { PeerId } from '../swarm/messages.ts';
import type { PeerMember } from './membership.ts';

/** Views of the membership differ for as long as it takes to ask for it twice; a new node is let in meanwhile. */
const STRANGER_GRACE_MS = 90_000;
/** Strangers remembered. Those above it are refused: no cluster replaces as many nodes within minutes. */
const STRANGERS_MAX = 4096;
/** A stranger that has been away this long is forgotten: its address may be a new node's. */
const STRANGER_MEMORY_MS = 3_600_000;

/** Who is a member as far as this node knows, and who may be one all the same. Pure. */
export class KnownMembers {
  readonly #names = new Map<PeerId, readonly string[]>();
  /** When each was first and last seen. */
  readonly #strangers = new Map<PeerId, { readonly firstMs: number; lastMs: number }>();

  set(members: readonly PeerMember[]): void {
    this.#names.clear();
    for (const { peer, names = [] } of members) {
      this.#names.set(peer, names);
      this.#strangers.delete(peer);
    }
  }

  /** Names other than its address under which the member is known. */
  namesOf(peer: PeerId): readonly string[] {
    return this.#names.get(peer) ?? [];
  }

  /** Whether the peer may take part: it is a member, or has been a stranger for no longer than views may differ. */
  admits(peer: PeerId, nowMs: number): boolean {
    if (this.#names.has(peer)) return true;
    const stranger = this.#strangers.get(peer);
    if (stranger === undefined) return this.#meet(peer, nowMs);
    const isForgotten = nowMs - stranger.lastMs > STRANGER_MEMORY_MS;
    if (isForgotten) this.#strangers.delete(peer);
    if (isForgotten) return this.#meet(peer, nowMs);
    stranger.lastMs = nowMs;
    return nowMs - stranger.firstMs <= STRANGER_GRACE_MS;
  }

  #meet(peer: PeerId, nowMs: number): boolean {
    if (this.#strangers.size >= STRANGERS_MAX) this.#forgetLongGone(nowMs);
    if (this.#strangers.size >= STRANGERS_MAX) return false;
    this.#strangers.set(peer, { firstMs: nowMs, lastMs: nowMs });
    return true;
  }

  #forgetLongGone(nowMs: number): void {
    for (const [peer, { lastMs }] of this.#strangers)
      if (nowMs - lastMs > STRANGER_MEMORY_MS) this.#strangers.delete(peer);
  }
}
