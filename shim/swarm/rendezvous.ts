import type { PeerId } from './messages.ts';

/**
 * The `count` peers with the highest rendezvous (highest random weight) score for `key`, best first. Every node with the
 * same membership computes the same order, and one member more or less moves only the keys that it wins or loses.
 */
export function rankByRendezvous(key: string, peers: readonly PeerId[], count: number): PeerId[] {
  return rankHashed(key, peers, Uint32Array.from(peers, hashPeer), count);
}

/** The same for peers whose hashes (`hashPeer`) are known already. */
export function rankHashed(
  key: string,
  peers: readonly PeerId[],
  hashes: Uint32Array,
  count: number,
): PeerId[] {
  const keyHash = hashString(key);
  const best: Scored[] = [];
  for (let index = 0; index < peers.length; index++) {
    const score = mix(keyHash ^ (hashes[index] as number));
    const last = best[best.length - 1];
    if (best.length === count && last !== undefined && score < last.score) continue;
    const entry = { peer: peers[index] as PeerId, score };
    const place = best.findIndex((other) => isBefore(entry, other));
    if (place >= 0) best.splice(place, 0, entry);
    else if (best.length < count) best.push(entry);
    if (best.length > count) best.pop();
  }
  return best.map((entry) => entry.peer);
}

export function hashPeer(peer: PeerId): number {
  return hashString(peer);
}

interface Scored {
  readonly peer: PeerId;
  readonly score: number;
}

function isBefore(left: Scored, right: Scored): boolean {
  return left.score > right.score || (left.score === right.score && left.peer < right.peer);
}

/** FNV-1a over UTF-16 code units. */
function hashString(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  return hash >>> 0;
}

/** The finalizer of MurmurHash3: every input bit changes every output bit with probability one half. */
function mix(value: number): number {
  let hash = value;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
