import { type Observer, Violation } from '../observer.ts';
import type { WorldOptions } from '../world-options.ts';

/** Nobody without the right to read a blob at the origin gets a chunk of it from a peer. */
export class RightsChecker implements Observer {
  readonly #withoutRight: ReadonlySet<number>;

  constructor({ withoutRight }: WorldOptions) {
    this.#withoutRight = new Set(withoutRight);
  }

  onServe({ from, to, blob, chunk }: Parameters<NonNullable<Observer['onServe']>>[0]): void {
    if (!this.#withoutRight.has(to.index)) return;
    throw new Violation(
      `node ${from.index} serves chunk ${chunk} of blob ${blob.index} to ${to.index}, which may not read it`,
    );
  }
}
