import { ErrorCode, ShoalError } from '../base/errors.ts';
import { splitPath, type TreePath } from './root-path.ts';

/** Paths are kept as text; this many bytes of them at most. */
const IMPLIED_BYTES_MAX = 32 * 1024 * 1024;

/** Directories that a layer has entries in but never names. */
export class ImpliedDirectories {
  readonly #isDirectory: (path: TreePath) => boolean;
  readonly #paths = new Set<TreePath>();
  #bytes = 0;

  constructor(isDirectory: (path: TreePath) => boolean) {
    this.#isDirectory = isDirectory;
  }

  /** @throws LimitExceeded */
  add(path: TreePath): void {
    if (this.#paths.has(path)) return;
    this.#paths.add(path);
    this.#bytes += path.length;
    if (this.#bytes > IMPLIED_BYTES_MAX)
      throw new ShoalError(
        ErrorCode.LimitExceeded,
        `Cannot unpack layer: it implies directories whose names need more than ${IMPLIED_BYTES_MAX} bytes`,
      );
  }

  /** The layer names it after all. */
  delete(path: TreePath): void {
    this.#paths.delete(path);
  }

  /** See `UnpackResult.impliedDirectories`. */
  list(): string[] {
    const known = new Map<TreePath, boolean>();
    const present = [...this.#paths].filter((path) => this.#isOwn(path, known));
    return present.map((path) => Buffer.from(path, 'latin1').toString());
  }

  /**
   * A later entry may have put a file or a link in the way: whoever is told of this directory sets its owner by path,
   * so that a link among its parents would lead out of the root.
   */
  #isOwn(path: TreePath, known: Map<TreePath, boolean>): boolean {
    if (path === '') return true;
    let isOwn = known.get(path);
    if (isOwn === undefined) {
      isOwn = this.#isOwn(splitPath(path)[0], known) && this.#isDirectory(path);
      known.set(path, isOwn);
    }
    return isOwn;
  }
}
