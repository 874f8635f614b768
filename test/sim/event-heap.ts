const FIRST_CAPACITY = 1024;
/** Children of an entry: four keep the heap flat, and a parent's children in one cache line. */
const FANOUT = 4;

/** Events by time; those of the same instant come out in the order in which they went in. */
export class EventHeap<T> {
  #atMs = new Float64Array(FIRST_CAPACITY);
  #sequence = new Float64Array(FIRST_CAPACITY);
  readonly #events: (T | undefined)[] = [];
  #size = 0;
  #pushed = 0;

  get size(): number {
    return this.#size;
  }

  /** Time of the first event. */
  get nextMs(): number | undefined {
    return this.#size === 0 ? undefined : this.#atMs[0];
  }

  push(atMs: number, event: T): void {
    if (this.#size === this.#atMs.length) this.#grow();
    const times = this.#atMs;
    let index = this.#size++;
    while (index > 0) {
      const parent = ((index - 1) / FANOUT) | 0;
      // A parent of the same instant was pushed earlier and stays above.
      if ((times[parent] as number) <= atMs) break;
      this.#move(parent, index);
      index = parent;
    }
    this.#put(index, { atMs, sequence: this.#pushed++, event });
  }

  /** Takes the first event; its time was `nextMs`. */
  pop(): T | undefined {
    if (this.#size === 0) return undefined;
    const first = this.#events[0];
    const last = --this.#size;
    const entry = {
      atMs: this.#atMs[last] as number,
      sequence: this.#sequence[last] as number,
      event: this.#events[last] as T,
    };
    this.#events[last] = undefined;
    if (last > 0) this.#sink(entry);
    return first;
  }

  #sink(entry: { readonly atMs: number; readonly sequence: number; readonly event: T }): void {
    let index = 0;
    for (;;) {
      const least = this.#leastChild(index);
      if (least === undefined || !this.#isBefore(least, entry.atMs, entry.sequence)) break;
      this.#move(least, index);
      index = least;
    }
    this.#put(index, entry);
  }

  #leastChild(index: number): number | undefined {
    const first = index * FANOUT + 1;
    if (first >= this.#size) return undefined;
    const end = Math.min(this.#size, first + FANOUT);
    let least = first;
    for (let child = first + 1; child < end; child++) {
      if (this.#isBefore(child, this.#atMs[least] as number, this.#sequence[least] as number)) least = child;
    }
    return least;
  }

  #isBefore(index: number, atMs: number, sequence: number): boolean {
    const otherMs = this.#atMs[index] as number;
    return otherMs < atMs || (otherMs === atMs && (this.#sequence[index] as number) < sequence);
  }

  #move(from: number, to: number): void {
    this.#atMs[to] = this.#atMs[from] as number;
    this.#sequence[to] = this.#sequence[from] as number;
    this.#events[to] = this.#events[from];
  }

  #put(index: number, entry: { readonly atMs: number; readonly sequence: number; readonly event: T }): void {
    this.#atMs[index] = entry.atMs;
    this.#sequence[index] = entry.sequence;
    this.#events[index] = entry.event;
  }

  #grow(): void {
    const [times, sequences] = [this.#atMs, this.#sequence];
    this.#atMs = new Float64Array(times.length * 2);
    this.#sequence = new Float64Array(times.length * 2);
    this.#atMs.set(times);
    this.#sequence.set(sequences);
  }
}
