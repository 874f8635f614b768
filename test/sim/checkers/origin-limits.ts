import { grantBytesMax, type OriginLimits } from '../../../shim/swarm/budget-bucket.ts';
import { type Observer, Violation } from '../observer.ts';
import type { Fault, WorldOptions } from '../world-options.ts';

/** Limits are judged over this, ms. */
const WINDOW_MS = 10_000;
/** What a takeover, bursts and rounding may add. */
const SHARE_MAX = 1.1;
/**
 * Faults under which the limit must hold all the same. Others cut nodes apart (or make them ban each other), which then
 * cannot share a budget, falsify the clock that it is measured by, or make what was granted long ago be read late.
 */
const JUDGED_FAULTS: readonly Fault['kind'][] = ['crash', 'restart', 'busy', 'heal'];

/** What all nodes together ask of the origin stays within the limits that they were given. */
export class OriginLimitsChecker implements Observer {
  readonly #bytes: Window;
  readonly #requests: Window;
  readonly #isJudged: boolean;

  constructor({ faults = [] }: WorldOptions, limits: OriginLimits) {
    const { bytesPerSecond, requestsPerSecond } = limits;
    this.#bytes = new Window('bytes', bytesPerSecond, grantBytesMax(limits));
    this.#requests = new Window('requests', requestsPerSecond, 1);
    this.#isJudged = faults.every(({ kind }) => JUDGED_FAULTS.includes(kind));
  }

  /** The most bytes within a window, over what the limit allows. */
  get bytesShare(): number {
    return this.#bytes.share;
  }

  get requestsShare(): number {
    return this.#requests.share;
  }

  onOriginBytes(_node: unknown, _blob: unknown, sizeBytes: number, nowMs: number): void {
    this.#bytes.add(sizeBytes, nowMs);
    this.#judge(this.#bytes);
  }

  onOriginRequest(_node: unknown, _blob: unknown, _run: unknown, nowMs: number): void {
    this.#requests.add(1, nowMs);
    this.#judge(this.#requests);
  }

  #judge(window: Window): void {
    if (this.#isJudged && window.isExceeded) throw new Violation(window.toString());
  }
}

/** Sums what happened within the last ten seconds. */
class Window {
  readonly #what: string;
  /** Undefined: no limit. */
  readonly #allowed: number | undefined;
  readonly #slack: number;
  readonly #events: { readonly count: number; readonly atMs: number }[] = [];
  #from = 0;
  #sum = 0;
  #most = 0;

  constructor(what: string, perSecond: number, slack: number) {
    this.#what = what;
    this.#allowed = perSecond === 0 ? undefined : (perSecond * WINDOW_MS) / 1000;
    this.#slack = slack;
  }

  get share(): number {
    return this.#allowed === undefined ? 0 : this.#most / this.#allowed;
  }

  get isExceeded(): boolean {
    return this.#allowed !== undefined && this.#most > SHARE_MAX * this.#allowed + this.#slack;
  }

  add(count: number, nowMs: number): void {
    this.#events.push({ count, atMs: nowMs });
    this.#sum += count;
    for (let first = this.#events[this.#from]; first !== undefined && nowMs - first.atMs > WINDOW_MS; ) {
      this.#sum -= first.count;
      first = this.#events[++this.#from];
    }
    this.#most = Math.max(this.#most, this.#sum);
  }

  toString(): string {
    const share = (this.share * 100).toFixed(1);
    return `nodes asked the origin for ${share} % of the ${this.#what} that they may within ${WINDOW_MS} ms`;
  }
}
