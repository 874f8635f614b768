import { cancelled } from '../base/errors.ts';

/** At most `max` holders at once; others wait in the order in which they came. */
export class Turnstile {
  readonly #max: number;
  #inside = 0;
  readonly #waiting = new Set<() => void>();

  constructor(max: number) {
    this.#max = max;
  }

  /** Resolves with the function that leaves. @throws Cancelled */
  async enter(signal: AbortSignal): Promise<() => void> {
    if (signal.aborted) throw cancelled(signal, 'wait for a turn');
    if (this.#inside < this.#max) this.#inside += 1;
    else await this.#queue(signal);
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#leave();
    };
  }

  #queue(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = () => {
        signal.removeEventListener('abort', giveUp);
        resolve();
      };
      const giveUp = () => {
        this.#waiting.delete(go);
        reject(cancelled(signal, 'wait for a turn'));
      };
      signal.addEventListener('abort', giveUp, { once: true });
      this.#waiting.add(go);
    });
  }

  #leave(): void {
    for (const go of this.#waiting) {
      this.#waiting.delete(go);
      go();
      return;
    }
    this.#inside -= 1;
  }
}
