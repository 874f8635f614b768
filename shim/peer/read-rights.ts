import { type BlobKey, blobKeyId } from '../base/blob-key.ts';
import type { PeerId } from '../swarm/messages.ts';
import { blobSecretOf, isSameProof, proofBySecret, type ReadRight, type Session } from './read-right.ts';
import { PROOFS_MAX, type RightMessage } from './right-messages.ts';

/** Blobs whose rights are remembered: the layers of some hundred images. The one that was learned first is forgotten. */
const BLOBS_MAX = 8192;
/** How long a proof is good for. Asking again costs one small message. */
const GRANT_MS = 10 * 60_000;
/** Proofs are sent again this long after the last time: well before the holder forgets. */
const PROVE_AGAIN_MS = 4 * 60_000;
/** What the registry once gave to everybody may be private later. */
const ANONYMOUS_MS = 60 * 60_000;
/** Blobs that one peer may have proofs, or open challenges, for. */
const BLOBS_PER_PEER_MAX = 1024;
/** A peer is challenged about a blob no more often: it reads its registry for it. */
const CHALLENGE_PAUSE_MS = 3_000;
/** Reading the pieces must not take longer. */
const CHALLENGE_MS = 30_000;

type Challenge = Extract<RightMessage, { kind: 'challenge' }>;

interface OwnRight {
  readonly key: BlobKey;
  /** Newest first. */
  secrets: readonly Uint8Array[];
  anonymousUntilMs: number;
}

/** What one peer has shown, and been shown. */
interface PeerState {
  readonly grantedUntilMs: Map<string, number>;
  readonly provenAtMs: Map<string, number>;
  readonly challenges: Map<string, { readonly challenge: Challenge; readonly atMs: number }>;
  /** When this peer last challenged us, by blob. */
  readonly challengedAtMs: Map<string, number>;
}

/** A right as it is kept across restarts. Time is that of the wall. */
export interface KeptRight {
  readonly key: BlobKey;
  readonly secrets: readonly Uint8Array[];
  readonly anonymousUntilMs: number;
}

/**
 * Which peer may have which blob of this node, and what this node shows to get blobs of others. Pure: no clock, no
 * randomness, no sockets. A connection that ends takes with it what was shown over it.
 */
export class ReadRights {
  readonly #own = new Map<string, OwnRight>();
  readonly #peers = new Map<PeerId, PeerState>();

  /** This node could read the blob at its registry. Gives false when that was known. */
  learn(key: BlobKey, right: ReadRight, nowMs: number): boolean {
    const id = blobKeyId(key);
    const known = this.#own.get(id);
    const secret = blobSecretOf(right, key);
    const others = known?.secrets.filter((each) => !isSameProof(each, secret)) ?? [];
    const isNewSecret = others.length === (known?.secrets.length ?? 0);
    const own = known ?? { key, secrets: [], anonymousUntilMs: 0 };
    own.secrets = [secret, ...others].slice(0, PROOFS_MAX);
    const wasAnonymous = own.anonymousUntilMs > nowMs;
    if (right.isAnonymous) own.anonymousUntilMs = nowMs + ANONYMOUS_MS;
    this.#remember(id, own);
    // What was shown before did not include this one.
    if (isNewSecret) for (const peer of this.#peers.values()) peer.provenAtMs.delete(id);
    return isNewSecret || (right.isAnonymous && !wasAnonymous);
  }

  forget(key: BlobKey): boolean {
    return this.#own.delete(blobKeyId(key));
  }

  /** Takes up what an earlier run of this node knew. */
  restore(kept: KeptRight): void {
    this.#remember(blobKeyId(kept.key), { ...kept, secrets: kept.secrets.slice(0, PROOFS_MAX) });
  }

  kept(): KeptRight[] {
    return [...this.#own.values()];
  }

  /** Holder: whether chunks of the blob may go to the peer. */
  mayServe(peer: PeerId, key: BlobKey, nowMs: number): boolean {
    const id = blobKeyId(key);
    if ((this.#own.get(id)?.anonymousUntilMs ?? 0) > nowMs) return true;
    return (this.#peers.get(peer)?.grantedUntilMs.get(id) ?? 0) > nowMs;
  }

  /** Holder: the peer's proofs came in over `session`. Gives whether one of them is right. */
  handleProofs(proofs: readonly Uint8Array[], key: BlobKey, session: Session, nowMs: number): boolean {
    const secrets = this.#own.get(blobKeyId(key))?.secrets ?? [];
    const expected = secrets.map((secret) => proofBySecret(secret, key, session));
    const isRight = proofs.some((proof) => expected.some((each) => isSameProof(each, proof)));
    if (isRight) this.grant(session.asker, key, nowMs);
    return isRight;
  }

  /** Holder: the peer has shown that it could read the blob. */
  grant(peer: PeerId, key: BlobKey, nowMs: number): void {
    const state = this.#stateOf(peer);
    setBounded(state.grantedUntilMs, blobKeyId(key), nowMs + GRANT_MS);
    state.challenges.delete(blobKeyId(key));
  }

  /** Holder: whether the peer should be asked for pieces of the blob now. */
  mayChallenge(peer: PeerId, key: BlobKey, nowMs: number): boolean {
    if (this.mayServe(peer, key, nowMs)) return false;
    const open = this.#peers.get(peer)?.challenges.get(blobKeyId(key));
    return open === undefined || nowMs - open.atMs >= CHALLENGE_PAUSE_MS;
  }

  /** Holder: the challenge was sent. It takes the place of an earlier one. */
  challenged(peer: PeerId, challenge: Challenge, nowMs: number): void {
    setBounded(this.#stateOf(peer).challenges, blobKeyId(challenge.key), { challenge, atMs: nowMs });
  }

  /** Holder: the challenge that an answer with this nonce is to; it cannot be answered again. */
  takeChallenge(peer: PeerId, key: BlobKey, nonce: Uint8Array, nowMs: number): Challenge | undefined {
    const open = this.#peers.get(peer)?.challenges.get(blobKeyId(key));
    if (open === undefined || !isSameProof(open.challenge.nonce, nonce)) return undefined;
    // The entry stays, as a mark of when the peer was challenged; an answer to it has been used up.
    const spent = { ...open.challenge, nonce: new Uint8Array(0) };
    this.#peers.get(peer)?.challenges.set(blobKeyId(key), { challenge: spent, atMs: open.atMs });
    return nowMs - open.atMs > CHALLENGE_MS ? undefined : open.challenge;
  }

  /** Asker: the proofs to send to the peer before anything else is asked about the blob, if it has not seen them lately. */
  proofsFor(key: BlobKey, session: Session, nowMs: number): Uint8Array[] | undefined {
    const id = blobKeyId(key);
    const secrets = this.#own.get(id)?.secrets ?? [];
    if (secrets.length === 0) return undefined;
    const state = this.#stateOf(session.holder);
    const atMs = state.provenAtMs.get(id);
    if (atMs !== undefined && nowMs - atMs < PROVE_AGAIN_MS) return undefined;
    setBounded(state.provenAtMs, id, nowMs);
    return secrets.map((secret) => proofBySecret(secret, key, session));
  }

  /** Asker: whether a challenge of this peer is to be answered; not more often than an honest one would ask. */
  mayAnswer(peer: PeerId, key: BlobKey, nowMs: number): boolean {
    const state = this.#stateOf(peer);
    const id = blobKeyId(key);
    const atMs = state.challengedAtMs.get(id);
    if (atMs !== undefined && nowMs - atMs < CHALLENGE_PAUSE_MS / 2) return false;
    setBounded(state.challengedAtMs, id, nowMs);
    // It did not know our proofs; it may by the next time.
    state.provenAtMs.delete(id);
    return true;
  }

  handleDisconnected(peer: PeerId): void {
    this.#peers.delete(peer);
  }

  #remember(id: string, own: OwnRight): void {
    this.#own.delete(id);
    setBounded(this.#own, id, own, BLOBS_MAX);
  }

  #stateOf(peer: PeerId): PeerState {
    const known = this.#peers.get(peer);
    if (known !== undefined) return known;
    const state = {
      grantedUntilMs: new Map(),
      provenAtMs: new Map(),
      challenges: new Map(),
      challengedAtMs: new Map(),
    };
    this.#peers.set(peer, state);
    return state;
  }
}

function setBounded<K, V>(map: Map<K, V>, key: K, value: V, max = BLOBS_PER_PEER_MAX): void {
  map.set(key, value);
  if (map.size <= max) return;
  for (const oldest of map.keys()) {
    map.delete(oldest);
    return;
  }
}
