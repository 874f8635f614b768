import type { BigIntStats } from 'node:fs';
import { chmod, lchown, lstat, readlink, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';
import { lgetxattr, llistxattr, lsetxattr, lutimesNs } from '../base/posix.ts';
import type { UpperDirectory } from './upper-directory.ts';

/** As the kernel: more symbolic links on the way to one directory are a loop. */
const LINKS_MAX = 40;
const PERMISSIONS = 0o7777n;
const SETGID = 0o2000;

export interface StagedTree {
  readonly directory: string;
  /** Directories that the layer never named, parents first, relative to the tree's root. */
  readonly impliedDirectories: readonly string[];
}

/**
 * Moves an extracted tree into the place of a prepared snapshot's empty upper directory: one rename. Before that, what the layer did
 * not say about its directories is taken from the layers below, as containerd does.
 */
export async function placeTree(tree: StagedTree, target: UpperDirectory): Promise<void> {
  try {
    await adoptRoot(tree.directory, target.upper);
    const real = new RealDirectories(tree.directory);
    for (const path of tree.impliedDirectories)
      if (await real.has(path)) await adoptDirectory(tree.directory, path, target.lowers);
    await rename(tree.directory, target.upper);
  } catch (error) {
    throw new ShoalError(
      ErrorCode.StoreFailed,
      `Cannot move a layer's tree to "${target.upper}": ${nodeErrorCode(error) ?? 'unknown error'}`,
      { cause: error },
    );
  }
}

/**
 * The snapshotter gave the upper directory its default mode and the owner of the root below. They hold whatever the layer says of its
 * root: containerd leaves such an entry out.
 */
async function adoptRoot(staged: string, upper: string): Promise<void> {
  const prepared = await lstat(upper, { bigint: true });
  await lchown(staged, Number(prepared.uid), Number(prepared.gid));
  await chmod(staged, Number(prepared.mode & PERMISSIONS));
}

async function adoptDirectory(staged: string, path: string, lowers: readonly string[]): Promise<void> {
  for (const lower of lowers) {
    const model = await resolveBelow(lower, path);
    if (model === undefined) continue;
    const stats = await lstat(model, { bigint: true });
    // A file of that name was replaced by a directory, or a whiteout hides what is further below.
    if (!stats.isDirectory()) break;
    return await copyAttributes(model, stats, join(staged, path));
  }
  await inheritGroup(join(staged, path));
}

/**
 * Tells directories of a tree from paths that lead through a symbolic link. A later entry of the same layer may have put a link in
 * the place of a directory, and what that link points to is not ours.
 */
class RealDirectories {
  readonly #root: string;
  readonly #known = new Map([
    ['', false],
    ['.', true],
  ]);

  constructor(root: string) {
    this.#root = root;
  }

  async has(path: string): Promise<boolean> {
    const known = this.#known.get(path);
    if (known !== undefined) return known;
    const isReal = (await this.has(dirname(path))) && (await isDirectory(join(this.#root, path)));
    this.#known.set(path, isReal);
    return isReal;
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return await lstat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
}

/** What the kernel does for a directory made below a set-group-ID one; that bit has come to the parent only now. */
async function inheritGroup(directory: string): Promise<void> {
  const parent = await lstat(dirname(directory));
  if ((parent.mode & SETGID) !== 0) await lchown(directory, (await lstat(directory)).uid, parent.gid);
}

async function copyAttributes(from: string, stats: BigIntStats, to: string): Promise<void> {
  await lchown(to, Number(stats.uid), Number(stats.gid));
  await chmod(to, Number(stats.mode & PERMISSIONS));
  for (const name of llistxattr(from)) {
    // These belong to the overlay file system itself.
    if (name.startsWith('trusted.')) continue;
    const value = lgetxattr(from, name);
    if (value !== undefined) lsetxattr(to, name, value);
  }
  lutimesNs(to, stats.atimeNs, stats.mtimeNs);
}

/**
 * The path's place below `root` with symbolic links followed as if `root` were `/`; undefined when there is nothing. The layers are read-only by now,
 * so nobody changes a link between two looks at it.
 */
export async function resolveBelow(root: string, path: string): Promise<string | undefined> {
  const waiting = path.split('/');
  const done: string[] = [];
  let links = 0;
  for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
    if (name === '' || name === '.') continue;
    if (name === '..') {
      done.pop();
      continue;
    }
    const target = await linkTarget(join(root, ...done, name));
    if (target === undefined) return undefined;
    if (target === null) {
      done.push(name);
      continue;
    }
    links += 1;
    if (links > LINKS_MAX) return undefined;
    if (target.startsWith('/')) done.length = 0;
    waiting.unshift(...target.split('/'));
  }
  return join(root, ...done);
}

/** Where a link points; null for anything else, undefined for nothing. */
async function linkTarget(path: string): Promise<string | null | undefined> {
  try {
    return await readlink(path);
  } catch (error) {
    const code = nodeErrorCode(error);
    if (code === 'EINVAL') return null;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}
