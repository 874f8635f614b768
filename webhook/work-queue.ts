/** Waits after failures of one key: doubling from the first to the longest, ms. */
const BACK_OFF_FIRST_MS = 500;
const BACK_OFF_LONGEST_MS = 5 * 60_000;

/**
 * Keys that wait for somebody to look at them. A key waits once however often it is added, and is with one worker at a
 * time: added meanwhile, it waits again after that. Pure: time and randomness are given.
 */
export class WorkQueue {
  readonly #keysMax: number;
  /** Key → when it may be taken. Insertion order is the order of those that are ready. */
  readonly #waiting = new Map<string, number>();
  readonly #working = new Map<string, { again: number | undefined }>();
  readonly #failures = new Map<string, number>();
  #hasOverflowed = false;

  constructor(keysMax: number) {
    this.#keysMax = keysMax;
  }

  /** False where there is no room: then `takeOverflow` tells so once. */
  add(key: string, atMs: number): boolean {
    const working = this.#working.get(key);
    if (working !== undefined) {
      working.again = Math.min(atMs, working.again ?? Number.POSITIVE_INFINITY);
      return true;
    }
    const waitsUntilMs = this.#waiting.get(key);
    if (waitsUntilMs === undefined && this.#waiting.size + this.#working.size >= this.#keysMax) {
      this.#hasOverflowed = true;
      return false;
    }
    if (waitsUntilMs === undefined || atMs < waitsUntilMs) this.#waiting.set(key, atMs);
    return true;
  }

  /** The first key whose time has come. It must be given back by `done` or `failed`. */
  take(nowMs: number): string | undefined {
    for (const [key, atMs] of this.#waiting) {
      if (atMs > nowMs) continue;
      this.#waiting.delete(key);
      this.#working.set(key, { again: undefined });
      return key;
    }
    return undefined;
  }

  done(key: string): void {
    this.#failures.delete(key);
    this.#giveBack(key, undefined);
  }

  /** @param random From 0 to 1: keys that fail together are spread. */
  failed(key: string, nowMs: number, random: number): void {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    const backOffMs = Math.min(BACK_OFF_LONGEST_MS, BACK_OFF_FIRST_MS * 2 ** Math.min(failures, 20));
    this.#giveBack(key, nowMs + backOffMs * (0.5 + random / 2));
  }

  /** When the next key may be taken; undefined where none waits. */
  nextAtMs(): number | undefined {
    let nextMs: number | undefined;
    for (const atMs of this.#waiting.values()) if (nextMs === undefined || atMs < nextMs) nextMs = atMs;
    return nextMs;
  }

  /** Whether keys were turned away since the last time that this was asked with room to spare. */
  takeOverflow(): boolean {
    const has = this.#hasOverflowed && this.length <= this.#keysMax / 2;
    if (has) this.#hasOverflowed = false;
    return has;
  }

  get length(): number {
    return this.#waiting.size + this.#working.size;
  }

  /** A failed key waits for its time, whoever added it meanwhile: else a busy namespace would undo every back-off. */
  #giveBack(key: string, atMs: number | undefined): void {
    const again = this.#working.get(key)?.again;
    this.#working.delete(key);
    const nextMs = atMs ?? again;
    if (nextMs !== undefined) this.#waiting.set(key, nextMs);
  }
}
