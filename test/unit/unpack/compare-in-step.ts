import * as fs from 'node:fs';
import * as posix from '../../../shim/base/posix.ts';

export interface Comparison {
  /** Paths that both trees have. */
  paths: number;
  /** How many paths or facts of paths differ. */
  differences: number;
  /** The first of them, in words. */
  readonly examples: string[];
}

const EXAMPLES_MAX = 20;
/** Read at once; files of the layers that are compared so are small. */
const CONTENT_BYTES_MAX = 1024 * 1024;
/** Inodes with names yet to come, about 100 bytes each: a layer whose links are further apart needs another comparison. */
const OPEN_LINKS_MAX = 2_000_000;

interface OpenLink {
  readonly theirs: bigint;
  namesLeft: bigint;
}

/**
 * Walks two trees in step, directory by directory in the order of names, and compares everything about each path that a container can
 * see. Memory is bounded by one directory for each level, and by the inodes whose names were not all met yet.
 *
 * Modification times of whiteouts (character devices 0/0) are left out: nobody sets those.
 */
export function compareInStep(oursRoot: string, theirsRoot: string): Comparison {
  const walk = new Walk(oursRoot, theirsRoot);
  walk.directory('');
  return walk.comparison;
}

class Walk {
  readonly comparison: Comparison = { paths: 0, differences: 0, examples: [] };
  readonly #roots: { readonly ours: string; readonly theirs: string };
  readonly #openLinks = new Map<bigint, OpenLink>();

  constructor(ours: string, theirs: string) {
    this.#roots = { ours, theirs };
  }

  directory(path: string): void {
    const [ours, theirs] = [list(this.#roots.ours, path), list(this.#roots.theirs, path)];
    const theirNames = new Set(theirs);
    for (const name of ours) {
      const child = path === '' ? name : `${path}/${name}`;
      if (theirNames.delete(name)) this.#pair(child);
      else this.#differ(child, 'only in ours');
    }
    for (const name of theirNames) this.#differ(`${path}/${name}`, 'only in theirs');
  }

  #pair(path: string): void {
    this.comparison.paths += 1;
    const [our, their] = [stat(this.#roots.ours, path), stat(this.#roots.theirs, path)];
    const [ours, theirs] = [facts(our), facts(their)];
    if (ours !== theirs) this.#differ(path, `ours ${ours}, theirs ${theirs}`);
    if (our.isDirectory() !== their.isDirectory()) return;
    if (our.isDirectory()) {
      this.#sameFact(path, xattrs);
      this.directory(path);
      return;
    }
    if (our.nlink > 1n) this.#link(path, our, their);
    if (our.isSymbolicLink() && their.isSymbolicLink()) this.#sameFact(path, target);
    if (our.isFile() && their.isFile() && our.size === their.size && our.size > 0n)
      this.#sameFact(path, content);
  }

  /** Two names of one inode in ours must be two names of one inode in theirs; the number of names is compared elsewhere. */
  #link(path: string, our: fs.BigIntStats, their: fs.BigIntStats): void {
    const open = this.#openLinks.get(our.ino) ?? { theirs: their.ino, namesLeft: our.nlink };
    if (open.theirs !== their.ino) this.#differ(path, 'a hard link to other files');
    open.namesLeft -= 1n;
    if (open.namesLeft > 0n) this.#openLinks.set(our.ino, open);
    else this.#openLinks.delete(our.ino);
    if (this.#openLinks.size > OPEN_LINKS_MAX)
      throw new Error(`Cannot compare trees: more than ${OPEN_LINKS_MAX} files have names yet to come`);
  }

  #sameFact(path: string, fact: (at: Buffer) => string): void {
    const [ours, theirs] = [fact(system(this.#roots.ours, path)), fact(system(this.#roots.theirs, path))];
    if (ours !== theirs) this.#differ(path, `${fact.name}: ours ${ours}, theirs ${theirs}`);
  }

  #differ(path: string, how: string): void {
    this.comparison.differences += 1;
    const { examples } = this.comparison;
    if (examples.length < EXAMPLES_MAX) examples.push(`${path}: ${how}`);
  }
}

function facts(stat: fs.BigIntStats): string {
  const isWhiteout = stat.isCharacterDevice() && stat.rdev === 0n;
  const times = isWhiteout ? '' : ` mtime=${stat.mtimeNs}${stat.isFile() ? ` atime=${stat.atimeNs}` : ''}`;
  // Sizes of directories tell how a file system keeps them.
  const size = stat.isDirectory() ? '' : ` size=${stat.size}`;
  return `mode=${stat.mode.toString(8)} uid=${stat.uid} gid=${stat.gid} links=${stat.nlink} rdev=${stat.rdev}${size}${times}`;
}

function list(root: string, path: string): string[] {
  return fs.readdirSync(system(root, path), { encoding: 'latin1' }).sort();
}

function stat(root: string, path: string): fs.BigIntStats {
  return fs.lstatSync(system(root, path), { bigint: true });
}

function xattrs(at: Buffer): string {
  const pairs = posix.llistxattr(at).map((name) => `${name}=${posix.lgetxattr(at, name)?.toString('hex')}`);
  return pairs.sort().join(',');
}

function target(at: Buffer): string {
  return fs.readlinkSync(at, 'latin1');
}

/** Read without moving the access time, which other names of the file are compared by. */
function content(at: Buffer): string {
  const file = fs.openSync(at, fs.constants.O_RDONLY | fs.constants.O_NOATIME);
  try {
    const bytes = fs.readFileSync(file);
    if (bytes.length > CONTENT_BYTES_MAX) throw new Error(`Cannot compare "${at}": ${bytes.length} bytes`);
    return bytes.toString('latin1');
  } finally {
    fs.closeSync(file);
  }
}

function system(root: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')]);
}
