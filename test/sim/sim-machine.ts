import type { Machine } from './world-options.ts';

const GB = 1e9;

/** Where a chunk lies in the page cache: by chunk, the machine's `cachedBytes` when it was last written or read. */
export interface Pages {
  readonly touchedAt: Float64Array;
  readonly chunk: number;
}

/** A node's disk and the agent's share of its CPU: each does one piece of work after the other. */
export class SimMachine {
  readonly #model: Machine | undefined;
  #diskBytesPerMs: number;
  #diskFreeMs = 0;
  /** When the last read that was asked for ends. */
  #readFreeMs = 0;
  #cpuFreeMs = 0;
  /** Bytes that have gone into the page cache since the start: all that was written, and what was read from the disk. */
  cachedBytes = 0;
  /** Bytes written since the start. */
  writtenBytes = 0;
  /** Bytes read from the disk, past the page cache. */
  readBytes = 0;
  cpuMs = 0;

  constructor(model: Machine | undefined) {
    this.#model = model;
    this.#diskBytesPerMs = (model?.diskBytesPerSecond ?? Number.POSITIVE_INFINITY) / 1000;
  }

  get layersAtOnce(): number {
    return this.#model?.layersAtOnce ?? Number.POSITIVE_INFINITY;
  }

  get unpackWorkers(): number {
    return this.#model?.unpackWorkers ?? Number.POSITIVE_INFINITY;
  }

  /** Whether containerd reads each blob once more, for its digest. */
  get keepsBlobs(): boolean {
    return this.#model?.keepsBlobs === true;
  }

  get unpacks(): boolean {
    return this.#model?.unpackedOverPacked !== undefined;
  }

  /** When all that was written is on the disk. */
  get idleAtMs(): number {
    return this.#diskFreeMs;
  }

  setDiskRate(bytesPerSecond: number | undefined): void {
    const rate = bytesPerSecond ?? this.#model?.diskBytesPerSecond ?? Number.POSITIVE_INFINITY;
    this.#diskBytesPerMs = rate / 1000;
  }

  restart(nowMs: number): void {
    this.#diskFreeMs = nowMs;
    this.#readFreeMs = nowMs;
    this.#cpuFreeMs = nowMs;
  }

  /** When a received chunk is checked and written. */
  store(sizeBytes: number, nowMs: number): number {
    return this.#write(sizeBytes, this.#compute(sizeBytes, this.#model?.costs.receiveSecondsPerGb, nowMs));
  }

  /** When a chunk is read and handed to the network. */
  load(sizeBytes: number, pages: Pages, nowMs: number): number {
    return this.#compute(
      sizeBytes,
      this.#model?.costs.serveSecondsPerGb,
      this.readPages(sizeBytes, pages, nowMs),
    );
  }

  /** When the content of a chunk's bytes is written. */
  unpack(sizeBytes: number, pages: Pages, nowMs: number): number {
    const { unpackedOverPacked = 1, costs } = this.#model ?? {};
    const readMs = this.readPages(sizeBytes, pages, nowMs);
    const contentBytes = sizeBytes * unpackedOverPacked;
    return this.#write(contentBytes, this.#compute(contentBytes, costs?.unpackSecondsPerGb, readMs));
  }

  /** When a chunk is in memory: what was least recently written or read leaves the page cache first. */
  readPages(sizeBytes: number, { touchedAt, chunk }: Pages, nowMs: number): number {
    const ageBytes = this.cachedBytes - (touchedAt[chunk] as number);
    const isCached = ageBytes <= (this.#model?.pageCacheBytes ?? Number.POSITIVE_INFINITY);
    const readMs = isCached ? nowMs : this.#read(sizeBytes, nowMs);
    touchedAt[chunk] = this.cachedBytes;
    return readMs;
  }

  #compute(sizeBytes: number, secondsPerGb: number | undefined, nowMs: number): number {
    if (secondsPerGb === undefined || this.#model === undefined) return nowMs;
    const tookMs = ((sizeBytes / GB) * secondsPerGb * 1000) / this.#model.cores;
    this.cpuMs += tookMs;
    this.#cpuFreeMs = Math.max(nowMs, this.#cpuFreeMs) + tookMs;
    return this.#cpuFreeMs;
  }

  #write(sizeBytes: number, nowMs: number): number {
    this.writtenBytes += sizeBytes;
    this.cachedBytes += sizeBytes;
    const dirtyMs = (this.#model?.dirtyBytes ?? 0) / this.#diskBytesPerMs;
    return Math.max(nowMs, this.#useDisk(sizeBytes, nowMs) - dirtyMs);
  }

  /** Somebody waits for a read, so it goes before writes that wait in memory, as in a kernel; these end later by its time. */
  #read(sizeBytes: number, nowMs: number): number {
    this.readBytes += sizeBytes;
    this.cachedBytes += sizeBytes;
    const allDoneMs = this.#useDisk(sizeBytes, nowMs);
    const readMs = Math.max(nowMs, this.#readFreeMs) + sizeBytes / this.#diskBytesPerMs;
    this.#readFreeMs = Math.min(allDoneMs, readMs);
    return this.#readFreeMs;
  }

  #useDisk(sizeBytes: number, nowMs: number): number {
    if (this.#diskBytesPerMs === Number.POSITIVE_INFINITY) return nowMs;
    this.#diskFreeMs = Math.max(nowMs, this.#diskFreeMs) + sizeBytes / this.#diskBytesPerMs;
    return this.#diskFreeMs;
  }
}
