/** Kinds of traffic, by the names that the `type` label has for them. */
export const trafficTypes = ['pread', 'download', 'peer', 'disk', 'http'] as const;
export type TrafficType = (typeof trafficTypes)[number];

export interface TrafficReading {
  /** Over the window. */
  readonly bytesPerSecond: number;
  readonly operationsPerSecond: number;
  /** The slowest answer within the window, µs. */
  readonly latencyUsMax: number;
  /** Since the start. */
  readonly bytes: number;
}

export interface TrafficTotals {
  readonly bytes: number;
  readonly operations: number;
}

/** Rates are means over this long: shorter than any scrape interval, longer than a chunk takes. */
export const windowSeconds = 10;

interface Slot {
  second: number;
  bytes: number;
  operations: number;
  latencyUsMax: number;
}

/** Counts traffic of one type and tells its recent rates. Time is an argument; memory is constant. */
export class TrafficMeter {
  #bytes = 0;
  #totals: TrafficTotals = { bytes: 0, operations: 0 };
  readonly #slots: Slot[] = Array.from({ length: windowSeconds }, () => emptySlot(Number.NEGATIVE_INFINITY));

  /** One request was answered. A negative size is a failed one: it counts, but brought no bytes. */
  record(sizeBytes: number, latencyUs: number, nowMs: number): void {
    const bytes = Math.max(sizeBytes, 0);
    const slot = this.#slotAt(nowMs);
    slot.bytes += bytes;
    slot.operations += 1;
    slot.latencyUsMax = Math.max(slot.latencyUsMax, latencyUs);
    this.#bytes += bytes;
  }

  /** An answer took this long; that it came, and with how many bytes, is in somebody else's totals. */
  recordLatency(latencyUs: number, nowMs: number): void {
    const slot = this.#slotAt(nowMs);
    slot.latencyUsMax = Math.max(slot.latencyUsMax, latencyUs);
  }

  /** Somebody else counts, and has come to these totals; what is new since the last call happened now. */
  recordTotals(totals: TrafficTotals, nowMs: number): void {
    const slot = this.#slotAt(nowMs);
    const bytes = Math.max(totals.bytes - this.#totals.bytes, 0);
    slot.bytes += bytes;
    slot.operations += Math.max(totals.operations - this.#totals.operations, 0);
    this.#bytes += bytes;
    this.#totals = { ...totals };
  }

  read(nowMs: number): TrafficReading {
    const now = Math.floor(nowMs / 1000);
    const recent = this.#slots.filter((slot) => slot.second > now - windowSeconds && slot.second <= now);
    const sum = (of: (slot: Slot) => number): number => recent.reduce((total, slot) => total + of(slot), 0);
    return {
      bytesPerSecond: sum((slot) => slot.bytes) / windowSeconds,
      operationsPerSecond: sum((slot) => slot.operations) / windowSeconds,
      latencyUsMax: recent.reduce((most, slot) => Math.max(most, slot.latencyUsMax), 0),
      bytes: this.#bytes,
    };
  }

  #slotAt(nowMs: number): Slot {
    const second = Math.floor(nowMs / 1000);
    const index = second % windowSeconds;
    const slot = this.#slots[index];
    if (slot !== undefined && slot.second === second) return slot;
    const fresh = emptySlot(second);
    this.#slots[index] = fresh;
    return fresh;
  }
}

function emptySlot(second: number): Slot {
  return { second, bytes: 0, operations: 0, latencyUsMax: 0 };
}
