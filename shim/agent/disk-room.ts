import { statfs } from 'node:fs/promises';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';

/** What an image takes on disk, in its compressed size: its layers once, and their trees, which are two to three times as big. */
const UNPACKED_FACTOR = 4;

/** Whether the file system keeps `freePercentMin` of its room free when an image of so many compressed bytes is brought. */
export async function hasDiskRoom(
  directory: string,
  imageBytes: number,
  freePercentMin: number,
): Promise<boolean> {
  try {
    const { bavail, blocks, bsize } = await statfs(directory);
    const leftBytes = bavail * bsize - imageBytes * UNPACKED_FACTOR;
    return leftBytes * 100 >= blocks * bsize * freePercentMin;
  } catch (cause) {
    const found = nodeErrorCode(cause) ?? 'failed';
    throw new ShoalError(ErrorCode.CacheUnavailable, `Cannot measure the disk of "${directory}": ${found}`, {
      cause,
    });
  }
}
