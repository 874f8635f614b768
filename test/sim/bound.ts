import type { WorldOptions } from './world-options.ts';

const GB = 1e9;

/**
 * What no scheme can beat, s: the origin sends each byte once, each node receives all, and all uplinks together send N
 * copies (Kumar and Ross, 2006): max(F/u_origin, F/d, N·F/(u_origin + Σu)).
 */
export function boundSeconds(options: WorldOptions): number {
  const { originBytesPerSecond, downBytesPerSecond } = options;
  const imageBytes = imageBytesOf(options);
  const pullers = options.nodes - new Set([...(options.seeds ?? []), ...(options.idle ?? [])]).size;
  return Math.max(
    imageBytes / originBytesPerSecond,
    imageBytes / downBytesPerSecond,
    (pullers * imageBytes) / (originBytesPerSecond + uplinks(options)),
  );
}

/** Each zone must get the image once over its link, unless it reads the origin itself. */
export function zoneBoundSeconds(options: WorldOptions): number {
  return imageBytesOf(options) / (options.zones?.linkBytesPerSecond ?? Number.POSITIVE_INFINITY);
}

/**
 * Each node must write layers and content to its disk, and check and unpack them with its share of the CPU. Where containerd keeps the
 * blobs it reads each when all of it is there, and no more of it than fits can be in the page cache then.
 */
export function machineBoundSeconds(options: WorldOptions): number {
  const { machine } = options;
  if (machine === undefined) return 0;
  const imageBytes = imageBytesOf(options);
  const contentBytes = imageBytes * (machine.unpackedOverPacked ?? 0);
  const { receiveSecondsPerGb, unpackSecondsPerGb } = machine.costs;
  const cpuSeconds = (imageBytes * receiveSecondsPerGb + contentBytes * unpackSecondsPerGb) / GB;
  const diskBytes = imageBytes + contentBytes + bytesReadForDigests(options);
  return Math.max(diskBytes / machine.diskBytesPerSecond, cpuSeconds / machine.cores);
}

function bytesReadForDigests({ machine, blobSizesBytes }: WorldOptions): number {
  if (machine?.keepsBlobs !== true) return 0;
  const { pageCacheBytes } = machine;
  return blobSizesBytes.reduce((sum, size) => sum + Math.max(0, size - pageCacheBytes), 0);
}

export function imageBytesOf({ blobSizesBytes }: WorldOptions): number {
  return blobSizesBytes.reduce((sum, size) => sum + size, 0);
}

function uplinks({ nodes, idle, upOf, upBytesPerSecond }: WorldOptions): number {
  const aside = new Set(idle);
  let sum = 0;
  for (let node = 0; node < nodes; node++) if (!aside.has(node)) sum += upOf?.get(node) ?? upBytesPerSecond;
  return sum;
}
