import * as fs from 'node:fs';
import { nodeErrorCode } from '../base/errors.ts';
import * as posix from '../base/posix.ts';
import { setFileTimes, setTimes, timesOf } from './entry-times.ts';
import { type TarHeader, TypeFlag } from './tar-header.ts';

const XATTR_PREFIX = 'SCHILY.xattr.';
const SETGID = 0o2000;
const SPECIAL_BITS = 0o7000;
/** What an unprivileged owner needs to fill a directory. */
export const OWNER_ALL = 0o700;

/** Owners, modes, extended attributes and times of entries. Only sets what creation cannot have got right. */
export class EntryMetadata {
  /** From then on a new file's owner and mode may not be what was asked for (setgid parent, default ACL, lower layers). */
  inherits: boolean;
  readonly #privileged: boolean;
  readonly #umask = process.umask();
  readonly #uid = process.geteuid?.() ?? 0;
  readonly #gid = process.getegid?.() ?? 0;

  constructor(privileged: boolean, inherits: boolean) {
    this.#privileged = privileged;
    this.inherits = inherits;
  }

  /** A directory with this mode is in the tree: what is made in it may get its group. */
  noteDirectory(mode: number): void {
    if ((mode & SETGID) !== 0) this.inherits = true;
  }

  /** Whether a directory that was just made with this mode may have got another one. */
  isModeUnsure(mode: number): boolean {
    return (mode & this.#umask) !== 0 || this.inherits;
  }

  /** All but the times, which entries in it would change. */
  finishDirectory(systemPath: string | Buffer, header: TarHeader): void {
    this.noteDirectory(header.mode);
    if (this.#privileged) this.#chown(systemPath, header);
    if (header.pax !== undefined) this.#setXattrs(systemPath, header);
    fs.chmodSync(systemPath, this.needsLateMode(header.mode) ? header.mode | OWNER_ALL : header.mode);
  }

  /** @param systemPath is asked for only when the entry has extended attributes. */
  finishFile(fd: number, systemPath: () => string | Buffer, header: TarHeader): void {
    const isOwner = header.uid === this.#uid && header.gid === this.#gid;
    const isChowned = this.#privileged && (!isOwner || this.inherits);
    if (isChowned) fs.fchownSync(fd, header.uid, header.gid);
    if (header.pax !== undefined) this.#setXattrs(systemPath(), header);
    const isModeWrong = (header.mode & (SPECIAL_BITS | this.#umask)) !== 0;
    if (isModeWrong || this.inherits) fs.fchmodSync(fd, header.mode);
    const { atime, mtime } = timesOf(header);
    setFileTimes(fd, atime, mtime);
  }

  /** An unprivileged owner must be able to fill a directory first. */
  needsLateMode(mode: number): boolean {
    return !this.#privileged && (mode & OWNER_ALL) !== OWNER_ALL;
  }

  finishSpecial(systemPath: string | Buffer, header: TarHeader): void {
    if (header.typeFlag === TypeFlag.globalPax) return;
    const isDevice = header.typeFlag === TypeFlag.character || header.typeFlag === TypeFlag.block;
    if (isDevice && !this.#privileged) return;
    if (this.#privileged) this.#chown(systemPath, header);
    if (header.pax !== undefined) this.#setXattrs(systemPath, header);
    const isSymlink =
      header.typeFlag === TypeFlag.symlink ||
      (header.typeFlag === TypeFlag.link && fs.lstatSync(systemPath).isSymbolicLink());
    if (!isSymlink) fs.chmodSync(systemPath, header.mode);
    const { atime, mtime } = timesOf(header);
    setTimes(systemPath, atime, mtime);
  }

  #chown(systemPath: string | Buffer, header: TarHeader): void {
    fs.lchownSync(systemPath, header.uid, header.gid);
  }

  #setXattrs(systemPath: string | Buffer, header: TarHeader): void {
    for (const [key, value] of header.pax ?? [])
      if (key.startsWith(XATTR_PREFIX)) this.#setXattr(systemPath, key.slice(XATTR_PREFIX.length), value);
  }

  /** `trusted.*` is the host's alone; a file system without xattrs, and links and devices without `user.*`, do without. */
  #setXattr(systemPath: string | Buffer, name: string, value: string): void {
    const isUser = name.startsWith('user.');
    if (name.startsWith('trusted.') || (!isUser && !this.#privileged)) return;
    if (name.startsWith('system.posix_acl_default')) this.inherits = true;
    try {
      posix.lsetxattr(systemPath, Buffer.from(name, 'latin1'), Buffer.from(value, 'latin1'));
    } catch (error) {
      const code = nodeErrorCode(error);
      if (code === 'ENOTSUP' || code === 'EOPNOTSUPP') return;
      if (code === 'EPERM' && isUser && !isFileOrDirectory(systemPath)) return;
      throw error;
    }
  }
}

function isFileOrDirectory(systemPath: string | Buffer): boolean {
  const stat = fs.lstatSync(systemPath);
  return stat.isFile() || stat.isDirectory();
}
