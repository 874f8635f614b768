/** A file system, as kubelet looks at it: what only root could use counts as used. */
export interface DiskUsage {
  readonly sizeBytes: number;
  readonly availableBytes: number;
}

/**
 * How full the cache's file system may be, percent, whoever filled it. Below kubelet's marks for images (85 and 80 %) the cache gives way
 * before images and pods do; 100 is never exceeded.
 */
export interface WaterMarks {
  /** Above it idle blobs are dropped. */
  readonly highPercent: number;
  /** Dropping ends here. At most `highPercent`. */
  readonly lowPercent: number;
}

/** What has to be freed to come down to each mark, bytes. */
export interface DiskExcess {
  readonly overHighBytes: number;
  readonly overLowBytes: number;
}

/** Undefined when the file system is not above high water. */
export function excessOf(usage: DiskUsage, marks: WaterMarks): DiskExcess | undefined {
  const overHighBytes = bytesOver(usage, marks.highPercent);
  if (overHighBytes <= 0) return undefined;
  return { overHighBytes, overLowBytes: bytesOver(usage, marks.lowPercent) };
}

/** Share of the file system that is in use, 0 to 1. */
export function usedRatioOf({ sizeBytes, availableBytes }: DiskUsage): number {
  return sizeBytes === 0 ? 0 : 1 - availableBytes / sizeBytes;
}

function bytesOver({ sizeBytes, availableBytes }: DiskUsage, percent: number): number {
  return Math.ceil(sizeBytes - availableBytes - (sizeBytes * percent) / 100);
}
