interface Flow<T> {
  readonly what: T;
  /** The link's virtual time at which the last byte leaves: bytes that each flow has had since the start. */
  readonly endsAt: number;
}

/** A link whose flows share its rate equally at every instant (processor sharing). */
export class FairLink<T> {
  readonly #bytesPerMs: number;
  #flows: Flow<T>[] = [];
  #servedEach = 0;
  #atMs = 0;
  /** Counts changes; an end that was planned before the latest change is out of date. */
  version = 0;

  constructor(rateBytesPerSecond: number) {
    this.#bytesPerMs = rateBytesPerSecond / 1000;
  }

  add(what: T, sizeBytes: number, nowMs: number): void {
    this.#advance(nowMs);
    this.#flows.push({ what, endsAt: this.#servedEach + sizeBytes });
    this.version++;
  }

  remove(isGone: (what: T) => boolean, nowMs: number): void {
    this.#advance(nowMs);
    this.#flows = this.#flows.filter((flow) => !isGone(flow.what));
    this.version++;
  }

  /** When the next flow ends if nothing changes. */
  nextEndMs(): number | undefined {
    let least = Number.POSITIVE_INFINITY;
    for (const flow of this.#flows) least = Math.min(least, flow.endsAt);
    if (least === Number.POSITIVE_INFINITY) return undefined;
    return this.#atMs + (Math.max(0, least - this.#servedEach) * this.#flows.length) / this.#bytesPerMs;
  }

  /** Takes the flows that have ended by now. */
  takeEnded(nowMs: number): T[] {
    this.#advance(nowMs);
    const ended: T[] = [];
    // A hundredth of a byte of slack: virtual time is a float.
    this.#flows = this.#flows.filter((flow) => {
      const isEnded = flow.endsAt <= this.#servedEach + 0.01;
      if (isEnded) ended.push(flow.what);
      return !isEnded;
    });
    this.version++;
    return ended;
  }

  #advance(nowMs: number): void {
    if (this.#flows.length > 0)
      this.#servedEach += ((nowMs - this.#atMs) * this.#bytesPerMs) / this.#flows.length;
    this.#atMs = nowMs;
  }
}
