import { setTimeout as sleep } from 'node:timers/promises';
import { sessionOf } from './owner.ts';

/** containerd restarts in well under a second; one that stays away costs a failed connection each time. */
const RETRY_FIRST_MS = 250;
const RETRY_MAX_MS = 10_000;
/** A containerd that hangs must not hold a sweep for ever. */
const SWEEP_TIMEOUT_MS = 60_000;

/** Sweeps the names for which `isOver` holds; rejects when it could not. */
export type SweepOver = (isOver: (name: string) => boolean, signal: AbortSignal) => Promise<void>;

/**
 * What sessions of this process could not take back because containerd was away: swept as soon as it answers again, instead of staying
 * until the leases run out. Sessions that are open are known by name, and never touched.
 */
export class Leftovers {
  readonly #ours: string;
  readonly #sweep: SweepOver;
  readonly #open = new Set<string>();
  readonly #closing = new AbortController();
  #left = false;
  #sweeping: Promise<void> | undefined;

  constructor(owner: string, sweep: SweepOver) {
    this.#ours = `shoal-${owner}-`;
    this.#sweep = sweep;
  }

  /** To be called before the session makes anything in containerd. Names are never used again. */
  begin(session: string): void {
    this.#open.add(session);
  }

  end(session: string, clean: boolean): void {
    this.#open.delete(session);
    if (clean || this.#closing.signal.aborted) return;
    this.#left = true;
    this.#sweeping ??= this.#sweepUntilDone();
  }

  /** What is left then is for the sweep of the next process. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#sweeping;
  }

  async #sweepUntilDone(): Promise<void> {
    const { signal } = this.#closing;
    for (
      let waitMs = RETRY_FIRST_MS;
      this.#left && !signal.aborted;
      waitMs = Math.min(waitMs * 2, RETRY_MAX_MS)
    ) {
      this.#left = false;
      const limit = AbortSignal.any([signal, AbortSignal.timeout(SWEEP_TIMEOUT_MS)]);
      await this.#sweep((name) => this.#isOver(name), limit).catch(() => {
        this.#left = true;
      });
      if (this.#left) await sleep(waitMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
    // Before anybody can say that more is left: nothing is awaited in between.
    this.#sweeping = undefined;
  }

  #isOver(name: string): boolean {
    const session = sessionOf(name);
    return session?.startsWith(this.#ours) === true && !this.#open.has(session);
  }
}
