import type { PeerId } from './messages.ts';

/** Peers that gave wrong bytes: not asked, not followed, not served until the ban ends. */
export class BanList {
  readonly #untilMs = new Map<PeerId, number>();
  readonly #banMs: number;
  readonly #bansMax: number;

  constructor(limits: { readonly banMs: number; readonly bansMax: number }) {
    this.#banMs = limits.banMs;
    this.#bansMax = limits.bansMax;
  }

  get size(): number {
    return this.#untilMs.size;
  }

  ban(peer: PeerId, nowMs: number): void {
    this.#untilMs.delete(peer);
    this.#untilMs.set(peer, nowMs + this.#banMs);
    if (this.#untilMs.size <= this.#bansMax) return;
    const oldest = this.#untilMs.keys().next();
    if (!oldest.done) this.#untilMs.delete(oldest.value);
  }

  pardon(peer: PeerId): void {
    this.#untilMs.delete(peer);
  }

  isBanned(peer: PeerId, nowMs: number): boolean {
    const untilMs = this.#untilMs.get(peer);
    if (untilMs === undefined) return false;
    if (nowMs < untilMs) return true;
    this.#untilMs.delete(peer);
    return false;
  }
}
