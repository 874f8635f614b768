import { dropCodePages } from '../base/code-pages.ts';
import { mallocTrim } from '../base/posix.ts';

/** Longer than unpack threads stay idle before they end, so that what they used goes back as well, ms. */
const QUIET_MS = 15_000;
/** V8 keeps the pages that a collection has emptied for the next one, which finds them unused, ms. */
const AGAIN_MS = 3_000;
/** V8 hands the backing of collected buffers to malloc in a thread of its own, shortly after, ms. */
const SWEEP_MS = 500;

/**
 * Gives memory back to the system when a node has been quiet for a while. Neither V8 nor malloc does so by itself: a
 * collection comes only when something is allocated, and freed pieces between used ones stay with the process. On a node
 * that pulls an image an hour that is twice the memory, all day. Takes about 50 ms; needs node's `--expose-gc`.
 */
export class IdleTrim {
  readonly #isBusy: () => boolean;
  #timer: NodeJS.Timeout | undefined;

  constructor(isBusy: () => boolean) {
    this.#isBusy = isBusy;
  }

  /** Something has just ended: the quiet time starts anew. */
  touch(): void {
    this.#wait(QUIET_MS, () => (this.#isBusy() ? this.touch() : this.#collect()));
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #collect(again = true): void {
    globalThis.gc?.();
    this.#wait(SWEEP_MS, () => {
      mallocTrim();
      dropCodePages();
      if (again) this.#wait(AGAIN_MS, () => this.#collect(false));
    });
  }

  #wait(delayMs: number, then: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, delayMs).unref();
  }
}
