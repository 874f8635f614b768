import * as fs from 'node:fs';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';

/**
 * Paths are byte strings (one UTF-16 unit, 0–255, per byte), cleaned, and relative to the root: `usr/bin`, and `` for
 * the root itself. Only `toSystemPath` makes something that the file system takes.
 */
export type TreePath = string;

/** containerd's own bound on the links it follows for one path. */
const LINKS_MAX = 255;

/** Resolved directories that are kept; at 100 bytes each this is a few megabytes. */
const CACHE_ENTRIES_MAX = 32_768;

/** An empty part, `.` or `..`; most names of a tar have none. */
const UNCLEAN_PART = /(?:^|\/)\.{0,2}(?:\/|$)/;

/** A path for node:fs: text where it is ASCII, which is faster, else the bytes. */
export function toSystemPath(bytes: string): string | Buffer {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII is meant
  return /^[\x00-\x7f]*$/.test(bytes) ? bytes : Buffer.from(bytes, 'latin1');
}

/** Go's filepath.Clean followed by joining to `/`: no `.`, no `..`, no double or trailing slashes, never above the root. */
export function cleanInRoot(path: string): TreePath {
  const trimmed = path.endsWith('/') ? path.slice(0, -1) : path;
  if (!UNCLEAN_PART.test(trimmed)) return trimmed;
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') parts.pop();
    else parts.push(part);
  }
  return parts.join('/');
}

export function joinPath(directory: TreePath, name: string): TreePath {
  return directory === '' ? name : `${directory}/${name}`;
}

/** Splits off the last part: `a/b` is `a` and `b`. */
export function splitPath(path: TreePath): [directory: TreePath, base: string] {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? ['', path] : [path.slice(0, slash), path.slice(slash + 1)];
}

/** Resolves symlinks inside a root, the way containerd does: `/` and `..` of a link's target end at the root. */
export class RootResolver {
  readonly #root: string;
  readonly #checkpoint: () => void;
  readonly #cache = new Map<TreePath, TreePath>();

  /** `root` is a byte string. `checkpoint` is called once in a while and may throw. */
  constructor(root: string, checkpoint: () => void) {
    this.#root = root;
    this.#checkpoint = checkpoint;
  }

  /** The path of `path` in the system, for node:fs. */
  systemPath(path: TreePath): string | Buffer {
    return toSystemPath(`${this.#root}/${path}`);
  }

  /**
   * Follows every link in `path`, its last part included; parts that do not exist stay as they are.
   * The result is a path without links. @throws UnpackUnsafe for a loop
   */
  resolve(path: string): TreePath {
    const links = { walked: 0 };
    let current = path;
    for (;;) {
      this.#checkpoint();
      const before = links.walked;
      const next = this.#walk(current, links);
      if (links.walked === before) return cleanInRoot(next);
      current = next;
    }
  }

  /** What `remember` was told of a cleaned path. */
  resolveCached(path: TreePath): TreePath | undefined {
    return path === '' ? '' : this.#cache.get(path);
  }

  /** Call only when `resolved` is a directory that exists. */
  remember(path: TreePath, resolved: TreePath): void {
    if (this.#cache.size >= CACHE_ENTRIES_MAX) this.#cache.clear();
    this.#cache.set(path, resolved);
  }

  /** Call after anything but a plain file was removed. */
  forgetAll(): void {
    this.#cache.clear();
  }

  /**
   * One pass over the parts. A link's target replaces the part and is not looked into before the next pass: joining
   * cleans it by its letters, as containerd does, so that both find the same place for a link behind a link.
   */
  #walk(path: string, links: { walked: number }): string {
    let walked = '';
    let isRaw = false;
    for (const part of path.split('/')) {
      if (part === '' || part === '.') continue;
      const at = isRaw || part === '..' ? cleanInRoot(`${walked}/${part}`) : joinPath(walked, part);
      const target = this.#readLink(at, links);
      isRaw = target?.startsWith('/') ?? false;
      if (target === undefined) walked = at;
      else walked = isRaw ? target : cleanInRoot(`${walked}/${target}`);
    }
    return walked;
  }

  #readLink(path: TreePath, links: { walked: number }): string | undefined {
    if (links.walked > LINKS_MAX)
      throw new ShoalError(
        ErrorCode.UnpackUnsafe,
        `Cannot resolve "${path}": more than ${LINKS_MAX} links on the way`,
      );
    if (path === '') return undefined;
    try {
      const target = fs.readlinkSync(this.systemPath(path), 'latin1');
      links.walked++;
      return target;
    } catch (error) {
      // EINVAL: not a link. ENOENT: not there yet.
      const code = nodeErrorCode(error);
      if (code === 'EINVAL' || code === 'ENOENT') return undefined;
      throw error;
    }
  }
}
