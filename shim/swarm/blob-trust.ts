import type { BlobKey } from '../base/blob-key.ts';
import type { ChunkFetcher } from './chunk-fetcher.ts';
import type { ChunkLedger } from './chunk-ledger.ts';
import { forEachHash, sameHash } from './hash-runs.ts';
import type { ChunkHash, HashRun, PeerId } from './messages.ts';
import type { Neighbours } from './neighbours.ts';
import type { SwarmContext } from './swarm-context.ts';

interface BlobParts {
  readonly key: BlobKey;
  readonly ledger: ChunkLedger;
  readonly neighbours: Neighbours;
  readonly fetcher: ChunkFetcher;
}

/** Whose word about a blob's chunks is taken: the origin's before a directory's, a directory's before a neighbour's. */
export class BlobTrust {
  readonly #context: SwarmContext;
  readonly #blob: BlobParts;
  /** Who gave chunks of a blob that had the wrong digest: the origin will tell which of them were wrong. */
  readonly #suspects = new Map<number, { readonly peer: PeerId; readonly hash: ChunkHash }>();
  readonly #liars = new Set<PeerId>();
  readonly #bannedHere = new Set<PeerId>();
  #believesDirectories = true;

  constructor(context: SwarmContext, blob: BlobParts) {
    this.#context = context;
    this.#blob = blob;
  }

  /** True when chunks that were held are forgotten for it. */
  learnFromDirectory(hashes: readonly HashRun[], nowMs: number): boolean {
    let forgot = false;
    if (!this.#believesDirectories) return false;
    forEachHash(hashes, this.#blob.ledger.chunkCount, (chunk, hash) => {
      forgot = this.#learnTrusted(chunk, hash, nowMs) || forgot;
    });
    return forgot;
  }

  /** True when a chunk that was held is forgotten for it. */
  learnFromOrigin(chunk: number, hash: ChunkHash, nowMs: number): boolean {
    const { ledger, key } = this.#blob;
    this.#checkSuspect(chunk, hash);
    const forgot = !ledger.isTrusted(chunk) && this.#learnTrusted(chunk, hash, nowMs);
    const known = ledger.hashes[chunk];
    // The directory's hash differs from what the origin gave: the blob's digest will tell; our own bytes are kept.
    if (known !== undefined && !sameHash(known, hash))
      this.#context.note('hashConflict', undefined, key, `${chunk}`);
    return forgot;
  }

  /** A neighbour that contradicts a trusted hash is left. */
  learnClaims(peer: PeerId, hashes: readonly HashRun[], nowMs: number): void {
    const { ledger, neighbours } = this.#blob;
    let contradicts = false;
    const neighbour = neighbours.get(peer);
    forEachHash(hashes, ledger.chunkCount, (chunk, hash) => {
      if (ledger.learnClaim(chunk, hash, peer)) return;
      if (neighbour !== undefined) neighbours.lose(neighbour, chunk);
      contradicts ||= ledger.isTrusted(chunk);
    });
    if (contradicts) this.#dropClaimer(peer, nowMs);
  }

  /** The blob's digest was wrong: forgets every chunk, and remembers who gave it. */
  distrust(): void {
    this.#suspects.clear();
    for (const [chunk, suspect] of this.#blob.ledger.reset()) this.#suspects.set(chunk, suspect);
  }

  /** Peers found out since the last call. */
  takeLiars(): PeerId[] {
    const liars = [...this.#liars];
    this.#liars.clear();
    return liars;
  }

  /** The peer was banned for bytes of this blob. */
  noteBanned(peer: PeerId): void {
    if (this.#bannedHere.size < this.#context.limits.neighboursMax) this.#bannedHere.add(peer);
  }

  /**
   * A wrong hash that somebody published makes honest neighbours look like liars: from now on hashes are taken from
   * neighbours, those that were banned for bytes of this blob among them, and the blob's digest is the judge.
   */
  beginAfresh(): void {
    this.#context.note('begunAfresh', undefined, this.#blob.key, 'nothing came');
    this.#believesDirectories = false;
    for (const peer of this.#bannedHere) this.#context.peers.pardon(peer);
    this.#bannedHere.clear();
    this.#blob.ledger.doubtHashes();
  }

  #learnTrusted(chunk: number, hash: ChunkHash, nowMs: number): boolean {
    const { liars, forgot } = this.#blob.ledger.learnTrusted(chunk, hash);
    for (const peer of liars) this.#dropClaimer(peer, nowMs);
    return forgot;
  }

  /** Its hash disagrees with the directory's. It may have been deceived itself, so it is left alone but not banned. */
  #dropClaimer(peer: PeerId, nowMs: number): void {
    const { key, fetcher, neighbours } = this.#blob;
    this.#context.note('hashConflict', peer, key, 'claim differs from the directory');
    fetcher.dropPeer(peer);
    neighbours.drop(peer, nowMs, this.#context.limits.banMs);
  }

  #checkSuspect(chunk: number, hash: ChunkHash): void {
    const suspect = this.#suspects.get(chunk);
    if (suspect === undefined) return;
    this.#suspects.delete(chunk);
    if (!sameHash(suspect.hash, hash)) this.#liars.add(suspect.peer);
  }
}
