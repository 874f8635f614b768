import { TokenBucket } from '../swarm/token-bucket.ts';

/** Burst of every rate limit, as time: 0.1 s is 1 % of the 10 s over which limits are judged. */
const BURST_MS = 100;

/** A token bucket that waits. Takers are let through in the order in which they came; at rate 0 nobody waits. */
export class RateGate {
  readonly #bucket: TokenBucket | undefined;
  /** The largest take that does not run into debt. */
  readonly stepBytes: number;
  #tail: Promise<void> | undefined;
  readonly #timers = new Map<NodeJS.Timeout, () => void>();
  #closed = false;

  constructor(rateBytesPerSecond: number) {
    const burstBytes = Math.max(1, (rateBytesPerSecond * BURST_MS) / 1000);
    this.stepBytes = rateBytesPerSecond > 0 ? Math.ceil(burstBytes) : Number.MAX_SAFE_INTEGER;
    this.#bucket = rateBytesPerSecond > 0 ? new TokenBucket({ rateBytesPerSecond, burstBytes }) : undefined;
  }

  /** Gives undefined when the bytes may go at once: the hot path makes no promise. */
  take(bytes: number): Promise<void> | undefined {
    if (this.#bucket === undefined || this.#closed) return undefined;
    if (this.#tail === undefined && this.#bucket.take(bytes, performance.now()) === undefined)
      return undefined;
    const turn = (this.#tail ?? Promise.resolve()).then(() => this.#wait(bytes));
    this.#tail = turn;
    void turn.then(() => {
      if (this.#tail === turn) this.#tail = undefined;
    });
    return turn;
  }

  /** Lets everybody who waits go; nobody waits from now on. */
  close(): void {
    this.#closed = true;
    for (const [timer, go] of this.#timers) {
      clearTimeout(timer);
      go();
    }
    this.#timers.clear();
  }

  async #wait(bytes: number): Promise<void> {
    for (;;) {
      if (this.#closed) return;
      const nowMs = performance.now();
      const atMs = this.#bucket?.take(bytes, nowMs);
      if (atMs === undefined) return;
      await this.#sleep(Math.max(1, atMs - nowMs));
    }
  }

  #sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        resolve();
      }, delayMs);
      this.#timers.set(timer, resolve);
    });
  }
}
