import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as posix from '../../../shim/base/posix.ts';

/** Everything about one path that a container can see, as one line. */
export type TreeListing = ReadonlyMap<string, string>;

/**
 * Lists a tree, path by path (byte strings). Modification times of the directories in `untimed`, and of whiteouts, are
 * left out: nobody sets those.
 */
export function listTree(root: string, untimed: ReadonlySet<string> = new Set()): TreeListing {
  const paths = [...walk(root, '')];
  // All metadata first: reading content moves access times.
  const stats = new Map(paths.map((path) => [path, fs.lstatSync(system(root, path), { bigint: true })]));
  const firstOfInode = new Map<bigint, string>();
  const listing = new Map<string, string>();
  for (const [path, stat] of stats) {
    const first = firstOfInode.get(stat.ino) ?? path;
    firstOfInode.set(stat.ino, first);
    const isWhiteout = stat.isCharacterDevice() && stat.rdev === 0n;
    const facts: unknown[] = [
      stat.mode.toString(8),
      stat.uid,
      stat.gid,
      stat.rdev,
      first,
      xattrs(root, path),
    ];
    if (!isWhiteout && !untimed.has(path)) facts.push(`mtime=${stat.mtimeNs}`);
    if (stat.isFile()) facts.push(`atime=${stat.atimeNs}`, stat.size, content(root, path));
    if (stat.isSymbolicLink()) facts.push(fs.readlinkSync(system(root, path), 'latin1'));
    listing.set(path, facts.join(' '));
  }
  return listing;
}

/** Lines that differ, with the side they come from; empty when the trees are equal. */
export function diffTrees(ours: TreeListing, theirs: TreeListing): string[] {
  const paths = new Set([...ours.keys(), ...theirs.keys()]);
  return [...paths]
    .filter((path) => ours.get(path) !== theirs.get(path))
    .map(
      (path) => `${path}\n  ours:   ${ours.get(path) ?? 'absent'}\n  theirs: ${theirs.get(path) ?? 'absent'}`,
    );
}

function* walk(root: string, directory: string): Generator<string> {
  for (const name of fs.readdirSync(system(root, directory), { encoding: 'latin1' }).sort()) {
    const path = directory === '' ? name : `${directory}/${name}`;
    yield path;
    if (fs.lstatSync(system(root, path)).isDirectory()) yield* walk(root, path);
  }
}

function system(root: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')]);
}

function xattrs(root: string, path: string): string {
  const at = system(root, path);
  const pairs = posix.llistxattr(at).map((name) => `${name}=${posix.lgetxattr(at, name)?.toString('hex')}`);
  return pairs.sort().join(',');
}

function content(root: string, path: string): string {
  return createHash('sha256')
    .update(fs.readFileSync(system(root, path)))
    .digest('hex');
}
