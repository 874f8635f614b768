import type { SwarmLimits } from './limits.ts';
import type { PeerId } from './messages.ts';

/** A chunk that takes this many times the usual is slow. */
const SLOW_MEANS = 4;

/** Chunks being served. There is no queue: who finds no slot is told at once when to ask again. */
export class UploadSlots {
  readonly #limits: SwarmLimits;
  readonly #startedMs = new Map<PeerId, Map<number, number>>();
  #used = 0;
  #meanServeMs: number;

  constructor(limits: SwarmLimits) {
    this.#limits = limits;
    this.#meanServeMs = limits.busyHintMinMs;
  }

  get used(): number {
    return this.#used;
  }

  has(peer: PeerId, requestId: number): boolean {
    return this.#startedMs.get(peer)?.has(requestId) ?? false;
  }

  /** Undefined when a slot was taken, else the hint for `busy`, ms. */
  take(peer: PeerId, requestId: number, nowMs: number, isImport = false): number | undefined {
    const { uploadSlots, uploadSlotsForImports } = this.#limits;
    const slots = uploadSlots + (isImport ? uploadSlotsForImports : 0);
    if (this.#used >= slots && this.#brisk(nowMs) >= slots) return this.#hintMs();
    let ofPeer = this.#startedMs.get(peer);
    if (ofPeer === undefined) {
      ofPeer = new Map();
      this.#startedMs.set(peer, ofPeer);
    }
    ofPeer.set(requestId, nowMs);
    this.#used++;
    return undefined;
  }

  release(peer: PeerId, requestId: number, nowMs: number): void {
    const ofPeer = this.#startedMs.get(peer);
    const startedMs = ofPeer?.get(requestId);
    if (ofPeer === undefined || startedMs === undefined) return;
    ofPeer.delete(requestId);
    if (ofPeer.size === 0) this.#startedMs.delete(peer);
    this.#used--;
    this.#meanServeMs += (nowMs - startedMs - this.#meanServeMs) / 8;
  }

  /** The connection is gone, and what was being sent with it. */
  releasePeer(peer: PeerId): void {
    this.#used -= this.#startedMs.get(peer)?.size ?? 0;
    this.#startedMs.delete(peer);
  }

  /** Without those that are slow, as far as there are places for them. */
  #brisk(nowMs: number): number {
    const { uploadSlowMs, uploadSlotsForSlow } = this.#limits;
    const slowMs = Math.max(uploadSlowMs, SLOW_MEANS * this.#meanServeMs);
    const starts = [...this.#startedMs.values()].flatMap((ofPeer) => [...ofPeer.values()]);
    const slow = starts.filter((startedMs) => nowMs - startedMs >= slowMs).length;
    return this.#used - Math.min(slow, uploadSlotsForSlow);
  }

  #hintMs(): number {
    const { busyHintMinMs, busyHintMaxMs } = this.#limits;
    return Math.round(Math.min(busyHintMaxMs, Math.max(busyHintMinMs, this.#meanServeMs / 2)));
  }
}
