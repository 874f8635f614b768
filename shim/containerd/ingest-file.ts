import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, link, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { nodeErrorCode } from '../base/errors.ts';

/** More unfinished blobs than this are no sign of health; the plain way is taken then. */
const INGESTS_MAX = 4096;

/**
 * Puts a finished file in the place of the empty data file of containerd's ingest `ref`: as a hard link where both are on one
 * file system, else as a copy made by the kernel. The stream that opened the ingest must be closed. Returns undefined
 * when the ingest is not to be seen or written from here; the bytes must then be sent.
 */
export async function placeInIngest(
  contentRoot: string,
  ref: string,
  path: string,
): Promise<'linked' | 'copied' | undefined> {
  const directory = await findIngest(contentRoot, ref);
  if (directory === undefined) return undefined;
  const partial = join(directory, `shoal-${randomUUID()}`);
  try {
    const how = await linkOrCopy(path, partial);
    await rename(partial, join(directory, 'data'));
    return how;
  } catch {
    await rm(partial, { force: true }).catch(() => undefined);
    return undefined;
  }
}

async function linkOrCopy(from: string, to: string): Promise<'linked' | 'copied'> {
  try {
    await link(from, to);
    return 'linked';
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT') throw error;
  }
  await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  return 'copied';
}

/** The file `ref` in each ingest names it as `<namespace>/<number>/<ref>`. Refs of ours are unique. */
async function findIngest(contentRoot: string, ref: string): Promise<string | undefined> {
  const ingests = join(contentRoot, 'ingest');
  const names = await readdir(ingests).catch(() => []);
  if (names.length > INGESTS_MAX) return undefined;
  for (const name of names) {
    const directory = join(ingests, name);
    const text = await readFile(join(directory, 'ref'), 'utf8').catch(() => '');
    if (text.endsWith(`/${ref}`)) return directory;
  }
  return undefined;
}
