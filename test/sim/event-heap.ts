interface Entry<T> {
  readonly atMs: number;
  readonly sequence: number;
  readonly event: T;
}

/** Events by time; those of the same instant come out in the order in which they went in. */
export class EventHeap<T> {
  readonly #entries: Entry<T>[] = [];
  #sequence = 0;

  get size(): number {
    return this.#entries.length;
  }

  /** Time of the first event. */
  get nextMs(): number | undefined {
    return this.#entries[0]?.atMs;
  }

  push(atMs: number, event: T): void {
    const entry = { atMs, sequence: this.#sequence++, event };
    const entries = this.#entries;
    let index = entries.length;
    entries.push(entry);
    while (index > 0) {
      const parent = (index - 1) >>> 1;
      const above = entries[parent] as Entry<T>;
      if (isBefore(above, entry)) break;
      entries[index] = above;
      index = parent;
    }
    entries[index] = entry;
  }

  pop(): { readonly atMs: number; readonly event: T } | undefined {
    const entries = this.#entries;
    const first = entries[0];
    const last = entries.pop();
    if (first === undefined || last === undefined || entries.length === 0) return first;
    let index = 0;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= entries.length) break;
      const right = entries[child + 1];
      if (right !== undefined && isBefore(right, entries[child] as Entry<T>)) child++;
      const below = entries[child] as Entry<T>;
      if (isBefore(last, below)) break;
      entries[index] = below;
      index = child;
    }
    entries[index] = last;
    return first;
  }
}

function isBefore(left: Entry<unknown>, right: Entry<unknown>): boolean {
  return left.atMs < right.atMs || (left.atMs === right.atMs && left.sequence < right.sequence);
}
