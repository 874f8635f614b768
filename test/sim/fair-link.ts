/** Virtual time is a float: this much of a byte counts as sent. */
const SLACK_BYTES = 0.01;

/** A link whose flows share its rate equally at every instant (processor sharing). */
export class FairLink<T> {
  #bytesPerMs: number;
  readonly #flows: T[] = [];
  /** Per flow: the link's virtual time (bytes that each flow has had since the start) at which its last byte leaves. */
  readonly #endsAt: number[] = [];
  #servedEach = 0;
  #atMs = 0;
  /** When an event for this link is due; an event that comes earlier than any flow ends only plans anew. */
  plannedMs = Number.POSITIVE_INFINITY;

  constructor(rateBytesPerSecond: number) {
    this.#bytesPerMs = rateBytesPerSecond / 1000;
  }

  get flows(): readonly T[] {
    return this.#flows;
  }

  setRate(rateBytesPerSecond: number, nowMs: number): void {
    this.#advance(nowMs);
    this.#bytesPerMs = rateBytesPerSecond / 1000;
  }

  add(what: T, sizeBytes: number, nowMs: number): void {
    this.#advance(nowMs);
    this.#flows.push(what);
    this.#endsAt.push(this.#servedEach + sizeBytes);
  }

  remove(what: T, nowMs: number): void {
    const index = this.#flows.indexOf(what);
    if (index < 0) return;
    this.#advance(nowMs);
    this.#take(index);
  }

  /** When the next flow ends if nothing changes; Infinity without flows. */
  nextEndMs(): number {
    let least = Number.POSITIVE_INFINITY;
    for (const endsAt of this.#endsAt) if (endsAt < least) least = endsAt;
    if (least === Number.POSITIVE_INFINITY) return least;
    return this.#atMs + (Math.max(0, least - this.#servedEach) * this.#flows.length) / this.#bytesPerMs;
  }

  /** Takes one flow that has ended by now; undefined when there is none (left). */
  takeEnded(nowMs: number): T | undefined {
    this.#advance(nowMs);
    const limit = this.#servedEach + SLACK_BYTES;
    for (let index = 0; index < this.#endsAt.length; index++) {
      if ((this.#endsAt[index] as number) <= limit) return this.#take(index);
    }
    return undefined;
  }

  #take(index: number): T | undefined {
    this.#endsAt.splice(index, 1);
    return this.#flows.splice(index, 1)[0];
  }

  #advance(nowMs: number): void {
    if (this.#flows.length > 0)
      this.#servedEach += ((nowMs - this.#atMs) * this.#bytesPerMs) / this.#flows.length;
    this.#atMs = nowMs;
  }
}
