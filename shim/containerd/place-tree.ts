import { type BigIntStats, chmodSync, lchownSync, lstatSync } from 'node:fs';
import { chmod, lchown, lstat, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';
import { lgetxattr, llistxattr, lsetxattr, lutimesNs } from '../base/posix.ts';
import { LowerTree } from './lower-tree.ts';
import type { UpperDirectory } from './upper-directory.ts';

/** Other work of the process gets its turn after this many, some milliseconds. */
const DIRECTORIES_PER_TURN = 256;
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
    await adoptDirectories(tree, target.lowers);
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

async function adoptDirectories(tree: StagedTree, lowers: readonly string[]): Promise<void> {
  const real = new RealDirectories(tree.directory);
  const trees = lowers.map((lower) => new LowerTree(lower));
  for (const [index, path] of tree.impliedDirectories.entries()) {
    if (real.has(path)) adoptDirectory(join(tree.directory, path), path, trees);
    if (index % DIRECTORIES_PER_TURN === DIRECTORIES_PER_TURN - 1) await nextTurn();
  }
}

/** Gives an implied directory what the nearest layer below has at its path. Synchronous: an image may have 10,000 of them. */
function adoptDirectory(directory: string, path: string, lowers: readonly LowerTree[]): void {
  for (const lower of lowers) {
    const model = lower.find(path);
    if (model === 'absent') continue;
    if (model === 'hidden') break;
    copyAttributes(model.path, model.stats, directory);
    return;
  }
  inheritGroup(directory);
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

  has(path: string): boolean {
    const known = this.#known.get(path);
    if (known !== undefined) return known;
    const isReal = this.has(dirname(path)) && isDirectory(join(this.#root, path));
    this.#known.set(path, isReal);
    return isReal;
  }
}

function isDirectory(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** What the kernel does for a directory made below a set-group-ID one; that bit has come to the parent only now. */
function inheritGroup(directory: string): void {
  const parent = lstatSync(dirname(directory));
  if ((parent.mode & SETGID) !== 0) lchownSync(directory, lstatSync(directory).uid, parent.gid);
}

function copyAttributes(from: string, stats: BigIntStats, to: string): void {
  lchownSync(to, Number(stats.uid), Number(stats.gid));
  chmodSync(to, Number(stats.mode & PERMISSIONS));
  for (const name of llistxattr(from)) {
    // These belong to the overlay file system itself.
    if (name.startsWith('trusted.')) continue;
    const value = lgetxattr(from, name);
    if (value !== undefined) lsetxattr(to, name, value);
  }
  lutimesNs(to, stats.atimeNs, stats.mtimeNs);
}
