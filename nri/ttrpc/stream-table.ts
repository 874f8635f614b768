/** Ids are 32 bits and never used again: after the last one the connection can make no more calls. */
const ID_MAX = 0xffff_ffff;

export type Acceptance = 'accepted' | 'even' | 'reused' | 'full';

/** The open streams of one side of a connection: as the side that chooses ids (`open`), or the one that gets them (`accept`). */
export class StreamTable<Entry> {
  readonly #limit: number;
  readonly #open = new Map<number, Entry>();
  #last = -1;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#open.size;
  }

  /** The id of a new stream; undefined when too many are open or no id is left. */
  open(entry: Entry): number | undefined {
    const id = this.#last + 2;
    if (this.#open.size >= this.#limit || id > ID_MAX) return undefined;
    this.#last = id;
    this.#open.set(id, entry);
    return id;
  }

  /** Takes an id that the other side has chosen: odd, and above all before. A refused id that was new is used up. */
  accept(id: number, entry: Entry): Acceptance {
    if (id % 2 === 0) return 'even';
    if (id <= this.#last) return 'reused';
    this.#last = id;
    if (this.#open.size >= this.#limit) return 'full';
    this.#open.set(id, entry);
    return 'accepted';
  }

  get(id: number): Entry | undefined {
    return this.#open.get(id);
  }

  /** Forgets a stream; undefined when it was not open. */
  close(id: number): Entry | undefined {
    const entry = this.#open.get(id);
    this.#open.delete(id);
    return entry;
  }

  /** Forgets all streams and gives them. */
  closeAll(): Entry[] {
    const entries = [...this.#open.values()];
    this.#open.clear();
    return entries;
  }
}
