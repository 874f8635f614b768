import type { BlobKey } from '../base/blob-key.ts';
import type { ChunkLedger } from './chunk-ledger.ts';
import { hashRunsOf } from './hash-runs.ts';
import type { PeerId } from './messages.ts';
import type { Neighbours } from './neighbours.ts';
import type { SwarmContext } from './swarm-context.ts';

/** Who follows this node for one blob, and what they have not been told yet. */
export class Followers {
  readonly #context: SwarmContext;
  readonly #key: BlobKey;
  readonly #ledger: ChunkLedger;
  readonly #neighbours: Neighbours;
  readonly #peers = new Set<PeerId>();
  #news: number[] = [];
  #toldMs = Number.NEGATIVE_INFINITY;
  /** When the news is told. */
  dueMs = Number.POSITIVE_INFINITY;

  constructor(
    context: SwarmContext,
    blob: { readonly key: BlobKey; readonly ledger: ChunkLedger; readonly neighbours: Neighbours },
  ) {
    this.#context = context;
    this.#key = blob.key;
    this.#ledger = blob.ledger;
    this.#neighbours = blob.neighbours;
  }

  get size(): number {
    return this.#peers.size;
  }

  delete(peer: PeerId): void {
    this.#peers.delete(peer);
  }

  /** False when there is no place for one more. */
  admit(peer: PeerId): boolean {
    if (!this.#peers.has(peer) && !this.#hasPlaceFor(peer)) return false;
    this.#peers.add(peer);
    this.#sendBitmap(peer);
    return true;
  }

  /** One chunk more can be had here. */
  gained(chunk: number, nowMs: number): void {
    if (this.#peers.size === 0) return;
    const { haveDelayMs, haveDelaySmallMs, smallSwarm } = this.#context.limits;
    const isRare = this.#neighbours.knownCount < smallSwarm || this.#ledger.held.count <= 32;
    const delayMs = isRare ? haveDelaySmallMs : haveDelayMs;
    this.#news.push(chunk);
    // The first piece of news after a rest goes out at once: while a chunk is rare, each delay costs the whole swarm.
    this.dueMs = Math.min(this.dueMs, Math.max(nowMs, this.#toldMs + delayMs));
    if (nowMs >= this.dueMs || this.#news.length >= this.#context.limits.hashesPerMessageMax)
      this.tell(nowMs);
  }

  tell(nowMs: number): void {
    this.#toldMs = nowMs;
    this.dueMs = Number.POSITIVE_INFINITY;
    const chunks = this.#news
      .filter((chunk) => this.#ledger.held.has(chunk))
      .sort((left, right) => left - right);
    this.#news = [];
    if (chunks.length === 0 || this.#peers.size === 0) return;
    const hashes = hashRunsOf(chunks, this.#ledger.hashes, chunks.length);
    for (const peer of this.#peers) this.#context.send(peer, { kind: 'have', key: this.#key, hashes });
  }

  /** This node takes part no longer. */
  depart(): void {
    for (const peer of this.#peers) this.#context.send(peer, { kind: 'depart', key: this.#key });
    this.dueMs = Number.POSITIVE_INFINITY;
  }

  clear(): void {
    this.#peers.clear();
    this.#news = [];
  }

  /** The hashes that do not fit into the bitmap follow as `have`. */
  #sendBitmap(peer: PeerId): void {
    const { hashesPerMessageMax } = this.#context.limits;
    const chunks = this.#ledger.held.toArray();
    const held = this.#ledger.held.toBytes();
    for (let from = 0; from === 0 || from < chunks.length; from += hashesPerMessageMax) {
      const part = chunks.slice(from, from + hashesPerMessageMax);
      const hashes = hashRunsOf(part, this.#ledger.hashes, hashesPerMessageMax);
      if (from === 0) this.#context.send(peer, { kind: 'bitmap', key: this.#key, held, hashes });
      else this.#context.send(peer, { kind: 'have', key: this.#key, hashes });
    }
  }

  /** The last places are for peers that are not known to hold anything. */
  #hasPlaceFor(peer: PeerId): boolean {
    const { followersMax, followersReserved } = this.#context.limits;
    const holdsSomething = (this.#neighbours.get(peer)?.available.count ?? 0) > 0;
    return this.#peers.size < followersMax - (holdsSomething ? followersReserved : 0);
  }
}
