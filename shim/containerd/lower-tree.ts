import { type BigIntStats, lstatSync, readlinkSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

/** As the kernel: more symbolic links on the way to one directory are a loop. */
const LINKS_MAX = 40;

/**
 * What a layer has at a path: nothing, so that layers further below count; something that hides them; or a directory.
 */
export type LowerEntry = 'absent' | 'hidden' | LowerDirectory;

export interface LowerDirectory {
  /** Its real place. */
  readonly path: string;
  readonly stats: BigIntStats;
}

/**
 * Looks up directories in the tree of one layer, with symbolic links followed as if the tree's root were `/`. Answers are
 * kept, so that asking parents before children costs one system call a directory. Committed layers do not change.
 */
export class LowerTree {
  readonly #root: string;
  readonly #known = new Map<string, LowerEntry>();

  constructor(root: string) {
    this.#root = root;
  }

  find(path: string): LowerEntry {
    return this.#find(path, 0);
  }

  #find(path: string, links: number): LowerEntry {
    const known = this.#known.get(path);
    if (known !== undefined) return known;
    const found = this.#look(path, links);
    this.#known.set(path, found);
    return found;
  }

  #look(path: string, links: number): LowerEntry {
    if (path === '' || path === '.' || path === '/') return this.#stat(this.#root, links);
    const parent = this.#find(dirname(path), links);
    return typeof parent === 'string' ? parent : this.#stat(join(parent.path, basename(path)), links);
  }

  #stat(place: string, links: number): LowerEntry {
    const stats = lstatSync(place, { bigint: true, throwIfNoEntry: false });
    if (stats === undefined) return 'absent';
    if (stats.isDirectory()) return { path: place, stats };
    // A file of that name was replaced by a directory, or a whiteout hides what is further below.
    if (!stats.isSymbolicLink() || links >= LINKS_MAX) return 'hidden';
    return this.#find(targetOf(readlinkSync(place), this.#relative(dirname(place))), links + 1);
  }

  #relative(place: string): string {
    return place.slice(this.#root.length).replace(/^\//, '');
  }
}

/** The link's target as a path below the root; `..` stops there. */
function targetOf(target: string, from: string): string {
  return resolve('/', from, target).slice(1);
}
