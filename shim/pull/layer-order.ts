import { setTimeout as sleep } from 'node:timers/promises';
import { abortable } from '../base/abortable.ts';

/** How long a layer whose bytes are here leaves its thread to a lower one that has none yet, ms: origins and peers differ by less. */
const WAIT_MAX_MS = 300;

/**
 * Lets the layers of one image begin to unpack from the lowest up. Each can only be committed upon the one below, so that the
 * lowest should be complete first: the store then commits it while those above are still being unpacked.
 */
export class LayerOrder {
  readonly #started = new Map<number, PromiseWithResolvers<void>>();
  readonly #below = new Map<number, Promise<void>>();

  /** @param indices of the layers that are brought, lowest first */
  constructor(indices: readonly number[]) {
    let below = Promise.resolve();
    for (const index of indices) {
      const started = Promise.withResolvers<void>();
      this.#started.set(index, started);
      this.#below.set(index, below);
      below = started.promise;
    }
  }

  /** Resolves when the layer below has begun, or has let this one wait for long enough. @throws Cancelled */
  async turnOf(index: number, signal: AbortSignal): Promise<void> {
    const waited = new AbortController();
    const patience = sleep(WAIT_MAX_MS, undefined, { signal: waited.signal }).catch(() => undefined);
    try {
      await abortable(Promise.race([this.#below.get(index), patience]), signal, 'unpack a layer');
    } finally {
      waited.abort();
    }
  }

  /** The layer is being unpacked, or never will be. */
  started(index: number): void {
    this.#started.get(index)?.resolve();
  }
}
