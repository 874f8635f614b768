import type { BlobKey } from '../base/blob-key.ts';
import { Bitmap } from './bitmap.ts';
import type { Holder, PeerId } from './messages.ts';
import type { SwarmContext } from './swarm-context.ts';

/** `wanted`: no connection yet; `asked`: follow sent; `live`: its bitmap came. */
export interface Neighbour {
  readonly peer: PeerId;
  /** In another zone: asked only when its own zone does not get what it lacks. */
  isFar: boolean;
  state: 'wanted' | 'asked' | 'live';
  sinceMs: number;
  available: Bitmap;
  /** Requests under way at it. */
  inFlight: number;
  /** Requests that it is believed to take at once: grows with each chunk, shrinks with each `busy`. */
  window: number;
  pausedUntilMs: number;
  /** When a chunk of it last began or ended. */
  heardMs: number;
  /** Chunks that came from it since the last review. */
  delivered: number;
}

/** Holders remembered per blob beyond those followed. */
const KNOWN_MAX = 256;
/** A live neighbour gets this long to have something new, ms. */
const USELESS_MS = 500;
/** Neighbours exchanged at once; some are kept, for they may get something yet. */
const USELESS_PER_TURN = 2;
/** Neighbours beyond the target while request places stand idle; the rest of the places is for those that come later and follow. */
const EXTRA_WHEN_SHORT = 4;
const FIRST_WINDOW = 2;
/** Neighbours exchanged at a review. */
const EXCHANGES = 2;
/** Some time for each of the others, ms. */
const PAUSE_PER_KNOWN_MS = 40;
/** A neighbour is not judged before it had this much of the time between two reviews. */
const REVIEW_SHARE = 0.5;

/** Whom this node follows for one blob, and who else could be followed. */
export class Neighbours {
  readonly #context: SwarmContext;
  readonly #key: BlobKey;
  readonly #sizeBytes: number;
  readonly #chunkCount: number;
  readonly #known = new Map<PeerId, { notBeforeMs: number; readonly isFar: boolean }>();
  #nearKnown = 0;
  readonly #followed = new Map<PeerId, Neighbour>();
  /** How many live neighbours hold each chunk. */
  readonly copies: Uint8Array;
  #reviewAtMs = 0;
  #reviewGapMs: number;
  #hadChoice = false;
  /** Set when more neighbours would help but nobody else is known who has room. */
  needsHolders = false;

  constructor(context: SwarmContext, blob: { key: BlobKey; sizeBytes: number; chunkCount: number }) {
    this.#context = context;
    this.#key = blob.key;
    this.#sizeBytes = blob.sizeBytes;
    this.#chunkCount = blob.chunkCount;
    this.copies = new Uint8Array(blob.chunkCount);
    this.#reviewGapMs = context.limits.neighbourReviewMs;
  }

  get size(): number {
    return this.#followed.size;
  }

  /** How many nodes are known to take part, this one not counted. */
  get knownCount(): number {
    return this.#known.size;
  }

  /** Whether nobody else of this zone is known: then other zones are as good. */
  get isAloneInZone(): boolean {
    return this.#nearKnown === 0;
  }

  get(peer: PeerId): Neighbour | undefined {
    return this.#followed.get(peer);
  }

  values(): Iterable<Neighbour> {
    return this.#followed.values();
  }

  learnHolders(holders: readonly Holder[]): void {
    for (const { peer, zone } of holders) {
      if (peer === this.#context.self || this.#known.has(peer)) continue;
      if (this.#known.size >= KNOWN_MAX) this.#forgetOldest();
      const isFar = zone !== '' && this.#context.zone !== '' && zone !== this.#context.zone;
      if (!isFar) this.#nearKnown++;
      this.#known.set(peer, { notBeforeMs: Number.NEGATIVE_INFINITY, isFar });
    }
  }

  /** Follows more holders while there are places, gives up on those that do not answer, exchanges the least useful. */
  upkeep(held: Bitmap, isSated: boolean, nowMs: number): void {
    for (const neighbour of this.#followed.values()) {
      if (neighbour.state === 'live' || nowMs < neighbour.sinceMs + this.#context.limits.answerTimeoutMs)
        continue;
      this.#context.peers.failed(neighbour.peer, nowMs);
      this.drop(neighbour.peer, nowMs, this.#context.limits.backOffMinMs);
    }
    this.#review(held, nowMs);
    const { neighboursTarget, neighboursMax } = this.#context.limits;
    // Idle request places mean that the neighbours are overloaded: more of them are the cure.
    const isShort = this.#isShort && !isSated;
    const wanted = isShort ? Math.min(neighboursMax, neighboursTarget + EXTRA_WHEN_SHORT) : neighboursTarget;
    const candidates = isShort || this.#followed.size < wanted ? this.#candidates(nowMs) : [];
    this.needsHolders = isShort && candidates.length === 0;
    if (isShort && this.#followed.size >= neighboursTarget)
      this.#dropUseless(held, Math.min(candidates.length, USELESS_PER_TURN), nowMs);
    if (this.#followed.size >= wanted) return;
    for (const peer of candidates) {
      if (this.#followed.size >= wanted) break;
      this.#follow(peer, nowMs);
    }
  }

  /** A follower is a likely source as well; this makes the mesh symmetric, so that who comes last is heard too. */
  followBack(peer: PeerId, nowMs: number): void {
    const isFar = this.#context.isFar(peer);
    this.learnHolders([{ peer, zone: this.#context.peers.zoneOf(peer), complete: false }]);
    if (isFar && !this.isAloneInZone) return;
    if (this.#followed.has(peer) || this.#followed.size >= this.#context.limits.neighboursMax) return;
    if (this.#context.peers.isUsable(peer, nowMs)) this.#follow(peer, nowMs);
  }

  /** Follows one holder of another zone if it follows none yet. */
  crossOver(nowMs: number): void {
    for (const { isFar } of this.#followed.values()) if (isFar) return;
    for (const [peer, { isFar, notBeforeMs }] of this.#known) {
      if (!isFar || nowMs < notBeforeMs || !this.#context.peers.isUsable(peer, nowMs)) continue;
      this.followFar(peer, nowMs);
      return;
    }
  }

  /** Follows a holder of another zone. */
  followFar(peer: PeerId, nowMs: number): void {
    if (this.#followed.has(peer) || this.#followed.size >= this.#context.limits.neighboursMax) return;
    if (this.#context.isFar(peer) && this.#context.peers.isUsable(peer, nowMs)) this.#follow(peer, nowMs);
  }

  handleConnected(peer: PeerId, nowMs: number): void {
    const neighbour = this.#followed.get(peer);
    if (neighbour?.state === 'wanted') this.#ask(neighbour, nowMs);
  }

  /** The bitmap came; undefined when it was not asked for or is malformed. */
  becomeLive(peer: PeerId, held: Uint8Array, nowMs: number): Neighbour | undefined {
    const neighbour = this.#followed.get(peer);
    const available = Bitmap.fromBytes(held, this.#chunkCount);
    if (neighbour === undefined || neighbour.state === 'wanted' || available === undefined) return undefined;
    neighbour.state = 'live';
    neighbour.sinceMs = nowMs;
    this.#uncount(neighbour);
    neighbour.available = available;
    for (const chunk of available.toArray()) this.#count(chunk, 1);
    neighbour.isFar = this.#context.isFar(peer);
    return neighbour;
  }

  /** The neighbour has one chunk more. */
  gain(neighbour: Neighbour, chunk: number): void {
    if (neighbour.available.add(chunk)) this.#count(chunk, 1);
  }

  /** It does not have the chunk, or another with the same number. */
  lose(neighbour: Neighbour, chunk: number): void {
    if (neighbour.available.delete(chunk)) this.#count(chunk, -1);
  }

  /** Stops following; the peer is not followed again before `pauseMs` are over. */
  drop(peer: PeerId, nowMs: number, pauseMs: number): void {
    const neighbour = this.#followed.get(peer);
    const known = this.#known.get(peer);
    if (known !== undefined) known.notBeforeMs = nowMs + pauseMs;
    if (neighbour === undefined) return;
    this.#uncount(neighbour);
    this.#followed.delete(peer);
    if (neighbour.state !== 'wanted') this.#context.send(peer, { kind: 'unfollow', key: this.#key });
  }

  /** The peer takes part no longer. */
  forget(peer: PeerId): void {
    this.#forgetKnown(peer);
    const neighbour = this.#followed.get(peer);
    if (neighbour !== undefined) this.#uncount(neighbour);
    this.#followed.delete(peer);
  }

  unfollowAll(): void {
    for (const neighbour of this.#followed.values()) {
      if (neighbour.state !== 'wanted')
        this.#context.send(neighbour.peer, { kind: 'unfollow', key: this.#key });
    }
    this.#followed.clear();
    this.copies.fill(0);
  }

  /** Follows nobody, and anybody may be followed again at once. */
  beginAfresh(): void {
    this.unfollowAll();
    for (const known of this.#known.values()) known.notBeforeMs = Number.NEGATIVE_INFINITY;
  }

  /** Who is exchanged is not followed again while others are tried; where there are few, it soon has what this node lacks. */
  get #pauseMs(): number {
    return Math.min(this.#context.limits.neighbourReviewMs, this.#known.size * PAUSE_PER_KNOWN_MS);
  }

  get #isShort(): boolean {
    const { requests } = this.#context;
    return requests.live * 2 <= requests.target;
  }

  #candidates(nowMs: number): PeerId[] {
    const { peers, prng } = this.#context;
    const usable: PeerId[] = [];
    for (const [peer, known] of this.#known) {
      if (known.isFar && !this.isAloneInZone) continue;
      if (this.#followed.has(peer) || nowMs < known.notBeforeMs || !peers.isUsable(peer, nowMs)) continue;
      usable.push(peer);
    }
    prng.shuffle(usable);
    // An open connection costs nothing more; a pull of many layers should not end up connected to everybody.
    const connected = usable.filter((peer) => peers.isConnected(peer));
    return [...connected, ...usable.filter((peer) => !peers.isConnected(peer))];
  }

  /** Early comers may know only each other and soon all hold the same: those with nothing new make room. */
  #dropUseless(held: Bitmap, countMax: number, nowMs: number): void {
    let left = countMax;
    for (const neighbour of this.#followed.values()) {
      if (left === 0) return;
      if (neighbour.state !== 'live' || neighbour.inFlight > 0 || nowMs - neighbour.sinceMs < USELESS_MS)
        continue;
      if (!held.includes(neighbour.available)) continue;
      this.drop(neighbour.peer, nowMs, this.#pauseMs);
      left--;
    }
  }

  #count(chunk: number, change: number): void {
    this.copies[chunk] = (this.copies[chunk] as number) + change;
  }

  #uncount({ available }: Neighbour): void {
    for (const chunk of available.toArray()) this.#count(chunk, -1);
  }

  #follow(peer: PeerId, nowMs: number): void {
    const neighbour: Neighbour = {
      peer,
      isFar: this.#context.isFar(peer),
      state: 'wanted',
      sinceMs: nowMs,
      available: new Bitmap(this.#chunkCount),
      inFlight: 0,
      window: FIRST_WINDOW,
      pausedUntilMs: 0,
      heardMs: Number.NEGATIVE_INFINITY,
      delivered: 0,
    };
    this.#followed.set(peer, neighbour);
    if (this.#context.peers.reach(peer, nowMs)) this.#ask(neighbour, nowMs);
  }

  #ask(neighbour: Neighbour, nowMs: number): void {
    neighbour.state = 'asked';
    neighbour.sinceMs = nowMs;
    this.#context.send(neighbour.peer, { kind: 'follow', key: this.#key, sizeBytes: this.#sizeBytes });
  }

  /**
   * Exchanges those that gave least for others drawn at random. First comers know only each other at first, and stay the
   * busiest of all as everybody follows them: without exchange they would wait for each other to the end.
   */
  #review(held: Bitmap, nowMs: number): void {
    const { neighboursTarget, neighbourReviewFirstMs, neighbourReviewMs } = this.#context.limits;
    const hasChoice = () => this.#known.size > this.#followed.size && this.#followed.size >= neighboursTarget;
    if (!this.#hadChoice && hasChoice()) {
      this.#hadChoice = true;
      this.#reviewGapMs = neighbourReviewFirstMs;
      this.#reviewAtMs = nowMs + this.#context.prng.jitter(this.#reviewGapMs, 20);
    }
    if (nowMs < this.#reviewAtMs) return;
    const beforeMs = nowMs - this.#reviewGapMs * REVIEW_SHARE;
    this.#reviewGapMs = Math.min(neighbourReviewMs, 2 * this.#reviewGapMs);
    this.#reviewAtMs = nowMs + this.#context.prng.jitter(this.#reviewGapMs, 20);
    for (let turn = 0; turn < EXCHANGES && hasChoice(); turn++) {
      const worst = this.#leastUseful(held, beforeMs);
      if (worst === undefined) break;
      const [other] = this.#context.prng.shuffle(this.#candidates(nowMs));
      this.drop(worst.peer, nowMs, this.#pauseMs);
      if (other !== undefined) this.#follow(other, nowMs);
    }
    for (const neighbour of this.#followed.values()) neighbour.delivered = 0;
  }

  #leastUseful(held: Bitmap, beforeMs: number): Neighbour | undefined {
    let worst: Neighbour | undefined;
    for (const neighbour of this.#followed.values()) {
      if (neighbour.state !== 'live' || neighbour.inFlight > 0 || neighbour.sinceMs > beforeMs) continue;
      if (worst !== undefined && neighbour.delivered >= worst.delivered) continue;
      if (!this.#isSoleSource(neighbour, held)) worst = neighbour;
    }
    return worst;
  }

  /** Who alone offers what is missing here may give little because all want it: left by all, it would keep that to itself. */
  #isSoleSource({ available }: Neighbour, held: Bitmap): boolean {
    return available.toArray().some((chunk) => this.copies[chunk] === 1 && !held.has(chunk));
  }

  #forgetOldest(): void {
    for (const peer of this.#known.keys()) {
      if (this.#followed.has(peer)) continue;
      this.#forgetKnown(peer);
      return;
    }
  }

  #forgetKnown(peer: PeerId): void {
    if (this.#known.get(peer)?.isFar === false) this.#nearKnown--;
    this.#known.delete(peer);
  }
}
