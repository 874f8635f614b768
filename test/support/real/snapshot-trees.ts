import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { promisify } from 'node:util';
import * as assert from 'uvu/assert';
import { diffTrees, listTree, type TreeListing } from '../../unit/unpack/tree-listing.ts';
import type { Containerd } from './containerd.ts';

/** Directories changed since then got their time from an unpack, not from a layer. */
const STARTED_MS = Date.now();

/** Fails unless both directories hold the same, entry by entry; gives what they hold. */
export function compareTrees(
  ours: string,
  theirs: string,
  options: { readonly accessTimes: boolean },
): TreeListing {
  const untimed = directoriesOfNow(theirs);
  const our = describe(ours, untimed, options.accessTimes);
  assert.equal(diffTrees(our, describe(theirs, untimed, options.accessTimes)), []);
  return our;
}

/** listTree() with the root, and each entry's link count. */
function describe(root: string, untimed: ReadonlySet<string>, accessTimes: boolean): TreeListing {
  const { mode, uid, gid } = lstatSync(root);
  const listing = new Map([['.', `${mode.toString(8)} ${uid} ${gid}`]]);
  for (const [path, facts] of listTree(root, untimed)) {
    const { nlink } = lstatSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')]));
    listing.set(path, `${accessTimes ? facts : facts.replace(/ atime=\d+/, '')} nlink=${nlink}`);
  }
  return listing;
}

/** containerd leaves the time of its unpack on directories that no entry of the layer names. */
function directoriesOfNow(root: string): ReadonlySet<string> {
  const paths = readdirSync(root, { recursive: true, encoding: 'utf8' });
  const isOfNow = (path: string): boolean => {
    const stats = lstatSync(`${root}/${path}`);
    return stats.isDirectory() && stats.mtimeMs >= STARTED_MS;
  };
  return new Set(paths.filter(isOfNow));
}

/** The directory that holds what one committed layer adds. */
export async function layerDirectory(containerd: Containerd, chainId: string): Promise<string> {
  const mounts = await viewOf(containerd, chainId, '/nowhere');
  const found = /lowerdir=([^:,\s]+)/.exec(mounts)?.[1] ?? /(\/\S*\/fs)(?:\s|$)/.exec(mounts)?.[1];
  if (found === undefined) throw new Error(`Cannot find the layer's directory in "${mounts}"`);
  return found;
}

/** Mounts what a container would see, below a folder that unmounts it when it goes. */
export async function mountMerged(containerd: Containerd, chainId: string, target: string): Promise<string> {
  mkdirSync(target);
  const command = (await viewOf(containerd, chainId, target)).trim().split(/\s+/);
  assert.is(command.shift(), 'mount');
  await promisify(execFile)('mount', command);
  return target;
}

/** Makes a read-only view of a committed layer and gives the command that mounts it. */
async function viewOf(containerd: Containerd, chainId: string, target: string): Promise<string> {
  const key = `view-${createHash('sha256').update(`${chainId} ${target}`).digest('hex')}`;
  return await containerd.ctr('snapshots', 'view', '--target', target, key, chainId);
}
