import type { Machine } from './world-options.ts';

const GB = 1e9;

/** A node's disk and the agent's share of its CPU: each does one piece of work after the other. */
export class SimMachine {
  readonly #model: Machine | undefined;
  #diskBytesPerMs: number;
  #diskFreeMs = 0;
  /** When the last read that was asked for ends. */
  #readFreeMs = 0;
  #cpuFreeMs = 0;
  /** Bytes written since the start. */
  writtenBytes = 0;
  /** Bytes read from the disk, past the page cache. */
  readBytes = 0;
  cpuMs = 0;

  constructor(model: Machine | undefined) {
    this.#model = model;
    this.#diskBytesPerMs = (model?.diskBytesPerSecond ?? Number.POSITIVE_INFINITY) / 1000;
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

  /** When a chunk that was written when `writtenAt` bytes had been is read and handed to the network. */
  load(sizeBytes: number, writtenAt: number, nowMs: number): number {
    const isCached = this.writtenBytes - writtenAt <= (this.#model?.pageCacheBytes ?? Infinity);
    const readMs = isCached ? nowMs : this.#read(sizeBytes, nowMs);
    return this.#compute(sizeBytes, this.#model?.costs.serveSecondsPerGb, readMs);
  }

  /** When the content of a chunk's bytes is written. */
  unpack(sizeBytes: number, writtenAt: number, nowMs: number): number {
    const { unpackedOverPacked = 1, costs, pageCacheBytes = 0 } = this.#model ?? {};
    const readMs = this.writtenBytes - writtenAt <= pageCacheBytes ? nowMs : this.#read(sizeBytes, nowMs);
    const contentBytes = sizeBytes * unpackedOverPacked;
    return this.#write(contentBytes, this.#compute(contentBytes, costs?.unpackSecondsPerGb, readMs));
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
    const dirtyMs = (this.#model?.dirtyBytes ?? 0) / this.#diskBytesPerMs;
    return Math.max(nowMs, this.#useDisk(sizeBytes, nowMs) - dirtyMs);
  }

  /** Somebody waits for a read, so it goes before writes that wait in memory, as in a kernel; these end later by its time. */
  #read(sizeBytes: number, nowMs: number): number {
    this.readBytes += sizeBytes;
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
