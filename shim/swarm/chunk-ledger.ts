import { Bitmap } from './bitmap.ts';
import { sameHash } from './hash-runs.ts';
import type { ChunkHash, PeerId } from './messages.ts';

/** What this node knows of each chunk of one blob: held, under way, hash, and who said so. */
export class ChunkLedger {
  readonly chunkCount: number;
  held: Bitmap;
  /** Chunks that can be asked of a peer now: missing, not under way, hash known. */
  readonly open: Bitmap;
  /** Chunks that this node is reading at the origin. */
  readonly reading: Bitmap;
  readonly hashes: (ChunkHash | undefined)[];
  /** Chunks whose hash came from a directory or from our own read; others are a neighbour's claim. */
  readonly #trusted: Bitmap;
  readonly #claimants: (PeerId | undefined)[];
  readonly #suppliers: (PeerId | undefined)[];
  readonly #requests: Uint8Array;
  /** `windowEnd` is computed once for each number of held chunks. */
  #windowHeld = -1;
  #windowEnd = 0;

  constructor(chunkCount: number) {
    this.chunkCount = chunkCount;
    this.held = new Bitmap(chunkCount);
    this.open = new Bitmap(chunkCount);
    this.reading = new Bitmap(chunkCount);
    this.hashes = new Array(chunkCount).fill(undefined);
    this.#trusted = new Bitmap(chunkCount);
    this.#claimants = new Array(chunkCount).fill(undefined);
    this.#suppliers = new Array(chunkCount).fill(undefined);
    this.#requests = new Uint8Array(chunkCount);
  }

  get missingCount(): number {
    return this.chunkCount - this.held.count;
  }

  /** End of the window in which chunks are chosen at random: the first `countMax` missing ones, wherever they are. */
  windowEnd(countMax: number): number {
    if (this.held.count !== this.#windowHeld) {
      this.#windowHeld = this.held.count;
      this.#windowEnd = this.held.endOfMissing(countMax);
    }
    return this.#windowEnd;
  }

  isUnderWay(chunk: number): boolean {
    return (this.#requests[chunk] ?? 0) > 0 || this.reading.has(chunk);
  }

  /** Neither held nor under way in any manner. */
  isIdle(chunk: number): boolean {
    return !this.held.has(chunk) && !this.isUnderWay(chunk);
  }

  supplierOf(chunk: number): PeerId | undefined {
    return this.#suppliers[chunk];
  }

  hold(chunk: number, supplier: PeerId | undefined): boolean {
    if (!this.held.add(chunk)) return false;
    this.#suppliers[chunk] = supplier;
    this.reading.delete(chunk);
    this.open.delete(chunk);
    return true;
  }

  forget(chunk: number): void {
    this.held.delete(chunk);
    this.#suppliers[chunk] = undefined;
    this.#update(chunk);
  }

  startReading(chunk: number): void {
    this.reading.add(chunk);
    this.open.delete(chunk);
  }

  stopReading(chunk: number): void {
    if (this.reading.delete(chunk)) this.#update(chunk);
  }

  addRequest(chunk: number): void {
    this.#requests[chunk] = (this.#requests[chunk] ?? 0) + 1;
    this.open.delete(chunk);
  }

  dropRequest(chunk: number): void {
    this.#requests[chunk] = Math.max(0, (this.#requests[chunk] ?? 0) - 1);
    this.#update(chunk);
  }

  /** A neighbour's word. False when it contradicts what is known: the neighbour's chunk cannot be used. */
  learnClaim(chunk: number, hash: ChunkHash, claimant: PeerId): boolean {
    const known = this.hashes[chunk];
    if (known !== undefined) return sameHash(known, hash);
    this.hashes[chunk] = hash;
    this.#claimants[chunk] = claimant;
    this.#update(chunk);
    return true;
  }

  /** All chunks are held: their hashes stand until `reset`, whatever a directory says later. The blob's digest is the judge. */
  trustAll(): void {
    for (let chunk = 0; chunk < this.chunkCount; chunk++) this.#trusted.add(chunk);
  }

  isTrusted(chunk: number): boolean {
    return this.#trusted.has(chunk);
  }

  /**
   * The word of a directory or of the origin; it replaces claims. When the chunk is held with other bytes it is
   * forgotten. Returns who had claimed or supplied otherwise.
   */
  learnTrusted(
    chunk: number,
    hash: ChunkHash,
  ): { readonly liars: readonly PeerId[]; readonly forgot: boolean } {
    const known = this.hashes[chunk];
    if (known !== undefined && (this.#trusted.has(chunk) || sameHash(known, hash))) {
      this.#trusted.add(chunk);
      return NO_CONFLICT;
    }
    this.hashes[chunk] = hash;
    this.#trusted.add(chunk);
    const liars = known === undefined ? [] : [this.#claimants[chunk], this.#suppliers[chunk]];
    this.#claimants[chunk] = undefined;
    const forgot = known !== undefined && this.held.has(chunk);
    if (forgot) this.forget(chunk);
    this.#update(chunk);
    return { liars: [...new Set(liars)].filter((peer) => peer !== undefined), forgot };
  }

  /** No hash is beyond doubt any more, and those of chunks that are not here are forgotten. */
  doubtHashes(): void {
    this.#trusted.clear();
    for (let chunk = 0; chunk < this.chunkCount; chunk++) {
      if (this.held.has(chunk)) continue;
      this.hashes[chunk] = undefined;
      this.#claimants[chunk] = undefined;
      this.#update(chunk);
    }
  }

  /** Back to nothing known; returns who had supplied which hash. */
  reset(): Map<number, { readonly peer: PeerId; readonly hash: ChunkHash }> {
    const supplied = new Map<number, { peer: PeerId; hash: ChunkHash }>();
    for (let chunk = 0; chunk < this.chunkCount; chunk++) {
      const peer = this.#suppliers[chunk];
      const hash = this.hashes[chunk];
      if (this.held.has(chunk) && peer !== undefined && hash !== undefined)
        supplied.set(chunk, { peer, hash });
    }
    this.held = new Bitmap(this.chunkCount);
    this.#windowHeld = -1;
    this.hashes.fill(undefined);
    this.#suppliers.fill(undefined);
    this.#claimants.fill(undefined);
    this.#requests.fill(0);
    for (const set of [this.open, this.reading, this.#trusted]) set.clear();
    return supplied;
  }

  #update(chunk: number): void {
    if (this.isIdle(chunk) && this.hashes[chunk] !== undefined) this.open.add(chunk);
    else this.open.delete(chunk);
  }
}

const NO_CONFLICT = { liars: [], forgot: false } as const;
