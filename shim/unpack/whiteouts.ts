import * as fs from 'node:fs';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import * as posix from '../base/posix.ts';
import { shownName } from './entry-error.ts';
import type { PathSet } from './path-set.ts';
import { joinPath, type RootResolver, type TreePath } from './root-path.ts';
import type { TarHeader } from './tar-header.ts';

const WHITEOUT_PREFIX = '.wh.';
const OPAQUE_MARKER = '.wh..wh..opq';

export type PathType = 'none' | 'directory' | 'link' | 'other';

export interface WhiteoutsOptions {
  readonly mode: 'overlay' | 'merge';
  readonly privileged: boolean;
  readonly checkpoint: () => void;
  readonly resolver: RootResolver;
  /** Paths that this layer wrote, which its own opaque markers spare; overlay needs none. */
  readonly written: PathSet | undefined;
  readonly typeOf: (path: TreePath) => PathType;
}

export function isWhiteout(base: string): boolean {
  return base.startsWith(WHITEOUT_PREFIX);
}

/** What hides or removes the files of lower layers. */
export class Whiteouts {
  readonly #options: WhiteoutsOptions;

  constructor(options: WhiteoutsOptions) {
    this.#options = options;
  }

  /** Applies the whiteout or opaque marker named `base`. @throws UnpackUnsafe */
  apply(parent: TreePath, base: string, header: TarHeader): void {
    if (base === OPAQUE_MARKER) this.#applyOpaque(parent);
    else this.#applyFile(parent, base, header);
  }

  #applyFile(parent: TreePath, base: string, header: TarHeader): void {
    const hidden = base.slice(WHITEOUT_PREFIX.length);
    if (hidden === '' || hidden === '.' || hidden === '..')
      throw new ShoalError(
        ErrorCode.UnpackUnsafe,
        `Cannot apply whiteout "${shownName(header.name)}": it names no file`,
      );
    const path = joinPath(parent, hidden);
    if (this.#options.mode === 'merge') {
      this.removeAll(path);
      return;
    }
    const systemPath = this.#options.resolver.systemPath(path);
    posix.mknod(systemPath, posix.FileType.character, 0, 0);
    if (this.#options.privileged) fs.lchownSync(systemPath, header.uid, header.gid);
  }

  #applyOpaque(parent: TreePath): void {
    if (this.#options.mode === 'merge') {
      this.#removeLower(parent);
      return;
    }
    const name = this.#options.privileged ? 'trusted.overlay.opaque' : 'user.overlay.opaque';
    posix.lsetxattr(this.#options.resolver.systemPath(parent), name, Buffer.from('y'));
  }

  /** Removes what lower layers put into a directory, at any depth. */
  #removeLower(directory: TreePath): void {
    this.#options.checkpoint();
    for (const entry of this.#list(directory)) {
      const path = joinPath(directory, entry);
      if (!this.#options.written?.has(path)) this.removeAll(path);
      else if (this.#options.typeOf(path) === 'directory') this.#removeLower(path);
    }
  }

  #list(directory: TreePath): string[] {
    return fs.readdirSync(this.#options.resolver.systemPath(directory), { encoding: 'latin1' });
  }

  /** Removes what stands there, whatever it is. */
  removeAll(path: TreePath): void {
    const type = this.#options.typeOf(path);
    if (type === 'none') return;
    const systemPath = this.#options.resolver.systemPath(path);
    if (type !== 'directory') {
      fs.unlinkSync(systemPath);
      this.#options.resolver.forgetAll();
      return;
    }
    this.#options.checkpoint();
    for (const entry of this.#list(path)) this.removeAll(joinPath(path, entry));
    fs.rmdirSync(systemPath);
    this.#options.resolver.forgetAll();
  }
}
