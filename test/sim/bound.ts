import type { WorldOptions } from './world-options.ts';

/**
 * What no scheme can beat, s: the origin sends each byte once, each node receives all, and all uplinks together send N
 * copies (Kumar and Ross, 2006): max(F/u_origin, F/d, N·F/(u_origin + Σu)).
 */
export function boundSeconds(options: WorldOptions): number {
  const { originBytesPerSecond, downBytesPerSecond, upBytesPerSecond, upOf, nodes } = options;
  const imageBytes = options.blobSizesBytes.reduce((sum, size) => sum + size, 0);
  const aside = new Set([...(options.seeds ?? []), ...(options.idle ?? [])]);
  const pullers = nodes - aside.size;
  let uplinks = 0;
  for (let node = 0; node < nodes; node++) {
    if (!options.idle?.includes(node)) uplinks += upOf?.get(node) ?? upBytesPerSecond;
  }
  return Math.max(
    imageBytes / originBytesPerSecond,
    imageBytes / downBytesPerSecond,
    (pullers * imageBytes) / (originBytesPerSecond + uplinks),
  );
}
