import type { PullResult } from '../shim/agent/control-protocol.ts';
import { canonicalImageName } from './image-name.ts';

/** Results that are kept, the oldest goes first: a node holds some hundred images, and a result is half a kilobyte. */
export const RESULTS_MAX = 1000;
/** For so long a result tells how the image of a new container came, ms. */
export const RESULT_AGE_MS = 6 * 60 * 60 * 1000;

/** What the agent has told about pulls: the newest of each image for each pod, and of each image for any pod. */
export class ResultMemory {
  readonly #results = new Map<string, PullResult>();

  get size(): number {
    return this.#results.size;
  }

  add(result: PullResult): void {
    const image = canonicalImageName(result.image);
    this.#put(keyOf(image, undefined), result);
    if (result.podUid !== undefined) this.#put(keyOf(image, result.podUid), result);
  }

  /** How this pod got the image; else how the node got it last, for a pod that found it there. */
  find(imageName: string, podUid: string, nowMs: number): PullResult | undefined {
    const image = canonicalImageName(imageName);
    const result = this.#results.get(keyOf(image, podUid)) ?? this.#results.get(keyOf(image, undefined));
    return result !== undefined && nowMs - result.endedAtMs <= RESULT_AGE_MS ? result : undefined;
  }

  /** The agent repeats itself after each reconnect: an older result never takes the place of a newer one. */
  #put(key: string, result: PullResult): void {
    const before = this.#results.get(key);
    if (before !== undefined && before.endedAtMs > result.endedAtMs) return;
    this.#results.delete(key);
    this.#results.set(key, result);
    for (const oldest of this.#results.keys()) {
      if (this.#results.size <= RESULTS_MAX) return;
      this.#results.delete(oldest);
    }
  }
}

/** No image name holds a NUL. */
function keyOf(image: string, podUid: string | undefined): string {
  return podUid === undefined ? image : `${image}\0${podUid}`;
}
