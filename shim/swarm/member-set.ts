import type { PeerId } from './messages.ts';
import { hashPeer, rankHashed } from './rendezvous.ts';

interface Member {
  readonly peer: PeerId;
  readonly zone: string;
}

/** Membership as one node was told it. Nodes that were told by the same array (in the simulator: all) share one. */
export class MemberSet {
  static readonly none = new MemberSet([]);
  static readonly #made = new WeakMap<readonly Member[], MemberSet>();
  readonly peers: readonly PeerId[];
  readonly #zones = new Map<PeerId, string>();
  readonly #hashes: Uint32Array;

  static of(members: readonly Member[]): MemberSet {
    let made = MemberSet.#made.get(members);
    if (made === undefined) {
      made = new MemberSet(members);
      MemberSet.#made.set(members, made);
    }
    return made;
  }

  private constructor(members: readonly Member[]) {
    for (const { peer, zone } of members) this.#zones.set(peer, zone);
    this.peers = [...this.#zones.keys()];
    this.#hashes = Uint32Array.from(this.peers, hashPeer);
  }

  has(peer: PeerId): boolean {
    return this.#zones.has(peer);
  }

  zoneOf(peer: PeerId): string | undefined {
    return this.#zones.get(peer);
  }

  /** How many there are besides `self`. */
  countWithout(self: PeerId): number {
    return this.peers.length - (this.has(self) ? 1 : 0);
  }

  /** The best of the members and `self` by rendezvous hash, best first. */
  rank(key: string, self: PeerId, count: number): PeerId[] {
    if (this.has(self)) return rankHashed(key, this.peers, this.#hashes, count);
    const hashes = Uint32Array.of(...this.#hashes, hashPeer(self));
    return rankHashed(key, [...this.peers, self], hashes, count);
  }
}
