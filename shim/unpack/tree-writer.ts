import * as fs from 'node:fs';
import { assert } from '../base/assert.ts';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';
import * as posix from '../base/posix.ts';
import { DirectoryJournal } from './directory-journal.ts';
import { PathSet } from './path-set.ts';
import { cleanInRoot, joinPath, RootResolver, splitPath, type TreePath, toSystemPath } from './root-path.ts';
import type { TarSink } from './tar-decoder.ts';
import { type TarHeader, type TarTime, TypeFlag } from './tar-header.ts';

export interface TreeWriterOptions {
  /** An existing directory. */
  readonly root: string;
  /** See `UnpackJob.mode`. */
  readonly mode: 'overlay' | 'merge';
  readonly privileged: boolean;
  /** Limit of the sizes that all entries claim together. */
  readonly unpackedBytesMax: number;
  /** Called between system calls of long steps; throws to stop. */
  readonly checkpoint: () => void;
}

const WHITEOUT_PREFIX = '.wh.';
const OPAQUE_MARKER = '.wh..wh..opq';
const XATTR_PREFIX = 'SCHILY.xattr.';
const IMPLIED_MODE = 0o755;
/** Paths of implied directories are kept as text; this many bytes of them at most. */
const IMPLIED_BYTES_MAX = 32 * 1024 * 1024;
const SETGID = 0o2000;
const SPECIAL_BITS = 0o7000;
/** What an unprivileged owner needs to fill a directory. */
const OWNER_ALL = 0o700;
const PATH_BYTES_MAX = 4096;
const ENOTDIR = 20;
const ENAMETOOLONG = 36;
const EEXIST = 17;

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = fs.constants;

/**
 * Applies the entries of a layer to a directory by the rules of containerd's archive package, with synchronous calls.
 * Nobody else may change the directory meanwhile: what is known about it is remembered, and paths without links stay so.
 */
export class TreeWriter implements TarSink {
  readonly #options: TreeWriterOptions;
  readonly #resolver: RootResolver;
  readonly #journal = new DirectoryJournal();
  readonly #implied = new Set<TreePath>();
  #impliedBytes = 0;
  /** Paths that this layer wrote, which its own opaque markers spare; overlay needs none. */
  readonly #written: PathSet | undefined;
  readonly #umask: number;
  readonly #uid: number;
  readonly #gid: number;
  /** From then on a new file's owner and mode may not be what was asked for (setgid parent, default ACL, lower layers). */
  #inheritsMetadata: boolean;
  #claimedBytes = 0;
  #entries = 0;
  #fd = -1;
  #filePath: TreePath = '';
  #fileOffset = 0;

  constructor(options: TreeWriterOptions) {
    this.#options = options;
    this.#resolver = new RootResolver(Buffer.from(options.root).toString('latin1'), options.checkpoint);
    this.#written = options.mode === 'merge' ? new PathSet() : undefined;
    this.#umask = process.umask();
    this.#uid = process.geteuid?.() ?? 0;
    this.#gid = process.getegid?.() ?? 0;
    const isSetgid = (fs.statSync(options.root).mode & SETGID) !== 0;
    this.#inheritsMetadata =
      isSetgid || (options.mode === 'merge' && fs.readdirSync(options.root).length > 0);
  }

  get entries(): number {
    return this.#entries;
  }

  /** Sum of the sizes of all files, holes included. */
  get unpackedBytes(): number {
    return this.#claimedBytes;
  }

  begin(header: TarHeader): void {
    this.#entries++;
    this.#claim(header);
    this.#guard(header.name, () => this.#beginEntry(header));
  }

  data(chunk: Buffer, from: number, to: number, offset: number): void {
    if (this.#fd < 0) return;
    let at = from;
    try {
      while (at < to) {
        const position = this.#fileOffset === offset + at - from ? null : offset + at - from;
        const writtenBytes = fs.writeSync(this.#fd, chunk, at, to - at, position);
        if (position === null) this.#fileOffset += writtenBytes;
        at += writtenBytes;
      }
    } catch (error) {
      throw failedEntry(this.#filePath, error);
    }
  }

  end(header: TarHeader): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    try {
      // A sparse file may end in a hole, or have been written out of line.
      if (this.#fileOffset !== header.sizeBytes) fs.ftruncateSync(fd, header.sizeBytes);
      this.#finishFile(fd, header);
    } catch (error) {
      throw failedEntry(this.#filePath, error);
    } finally {
      fs.closeSync(fd);
    }
  }

  /** Sets the directories' times, last, because writing into them changes those. */
  finish(): void {
    assert(this.#fd < 0, 'no file is open');
    for (const record of this.#journal.records()) {
      this.#options.checkpoint();
      this.#guard(record.path, () => {
        const known = this.#resolver.resolveCached(record.path);
        const path = this.#resolver.systemPath(known ?? this.#resolver.resolve(record.path));
        if (this.#needsLateMode(record.mode)) fs.chmodSync(path, record.mode);
        setTimes(path, record.atime, record.mtime);
      });
    }
  }

  /** Closes what a failure left open. */
  close(): void {
    if (this.#fd >= 0) fs.closeSync(this.#fd);
    this.#fd = -1;
  }

  /** See `UnpackResult.impliedDirectories`. */
  impliedDirectories(): string[] {
    const known = new Map<TreePath, boolean>();
    const present = [...this.#implied].filter((path) => this.#isOwnDirectory(path, known));
    return present.map((path) => Buffer.from(path, 'latin1').toString());
  }

  /**
   * A later entry may have put a file or a link in the way: whoever is told of this directory sets its owner by path,
   * so that a link among its parents would lead out of the root.
   */
  #isOwnDirectory(path: TreePath, known: Map<TreePath, boolean>): boolean {
    if (path === '') return true;
    let isOwn = known.get(path);
    if (isOwn === undefined) {
      isOwn = this.#isOwnDirectory(splitPath(path)[0], known) && this.#typeOf(path) === 'directory';
      known.set(path, isOwn);
    }
    return isOwn;
  }

  #claim(header: TarHeader): void {
    const isFile = header.typeFlag === TypeFlag.regular;
    this.#claimedBytes += isFile ? header.sizeBytes : 0;
    if (this.#claimedBytes <= this.#options.unpackedBytesMax) return;
    throw new ShoalError(
      ErrorCode.LimitExceeded,
      `Cannot unpack "${shown(header.name)}": the layer claims more than ${this.#options.unpackedBytesMax} bytes`,
    );
  }

  #guard(name: string, body: () => void): void {
    try {
      body();
    } catch (error) {
      throw failedEntry(name, error);
    }
  }

  #beginEntry(header: TarHeader): void {
    const name = cleanInRoot(header.name);
    if (name === '') return;
    if (name.length > PATH_BYTES_MAX) throw new posix.PosixError('open', ENAMETOOLONG);
    const [directory, base] = splitPath(name);
    const parent = this.#openDirectory(directory);
    if (base === OPAQUE_MARKER) this.#applyOpaque(parent);
    else if (base.startsWith(WHITEOUT_PREFIX)) this.#applyWhiteout(parent, base, header);
    else {
      const path = joinPath(parent, base);
      this.#create(path, name, header);
      this.#written?.add(path);
    }
  }

  /** Resolves a directory inside the root and creates what is missing of it. */
  #openDirectory(directory: TreePath): TreePath {
    const known = this.#resolver.resolveCached(directory);
    if (known !== undefined) return known;
    const [parent, base] = splitPath(directory);
    const path = joinPath(this.#openDirectory(parent), base);
    const type = this.#typeOf(path);
    if (type === 'other') throw new posix.PosixError('mkdir', ENOTDIR);
    if (type === 'none') this.#makeImplied(path);
    const resolved = type === 'link' ? this.#openDirectory(this.#resolver.resolve(directory)) : path;
    this.#resolver.remember(directory, resolved);
    return resolved;
  }

  #makeImplied(path: TreePath): void {
    const systemPath = this.#resolver.systemPath(path);
    fs.mkdirSync(systemPath, IMPLIED_MODE);
    if ((IMPLIED_MODE & this.#umask) !== 0 || this.#inheritsMetadata) fs.chmodSync(systemPath, IMPLIED_MODE);
    this.#rememberImplied(path);
  }

  #rememberImplied(path: TreePath): void {
    if (this.#implied.has(path)) return;
    this.#implied.add(path);
    this.#impliedBytes += path.length;
    if (this.#impliedBytes > IMPLIED_BYTES_MAX)
      throw new ShoalError(
        ErrorCode.LimitExceeded,
        `Cannot unpack layer: it implies directories whose names need more than ${IMPLIED_BYTES_MAX} bytes`,
      );
  }

  #applyWhiteout(parent: TreePath, base: string, header: TarHeader): void {
    const hidden = base.slice(WHITEOUT_PREFIX.length);
    if (hidden === '' || hidden === '.' || hidden === '..')
      throw new ShoalError(
        ErrorCode.UnpackUnsafe,
        `Cannot apply whiteout "${shown(header.name)}": it names no file`,
      );
    const path = joinPath(parent, hidden);
    if (this.#options.mode === 'merge') {
      this.#removeAll(path);
      return;
    }
    const systemPath = this.#resolver.systemPath(path);
    posix.mknod(systemPath, posix.FileType.character, 0, 0);
    if (this.#options.privileged) this.#chown(systemPath, header);
  }

  #applyOpaque(parent: TreePath): void {
    if (this.#options.mode === 'merge') {
      this.#removeLower(parent);
      return;
    }
    const name = this.#options.privileged ? 'trusted.overlay.opaque' : 'user.overlay.opaque';
    posix.lsetxattr(this.#resolver.systemPath(parent), name, Buffer.from('y'));
  }

  /** Removes what lower layers put into a directory, at any depth. */
  #removeLower(directory: TreePath): void {
    this.#options.checkpoint();
    for (const entry of this.#list(directory)) {
      const path = joinPath(directory, entry);
      if (!this.#written?.has(path)) this.#removeAll(path);
      else if (this.#typeOf(path) === 'directory') this.#removeLower(path);
    }
  }

  #list(directory: TreePath): string[] {
    return fs.readdirSync(this.#resolver.systemPath(directory), { encoding: 'latin1' });
  }

  #removeAll(path: TreePath): void {
    const type = this.#typeOf(path);
    if (type === 'none') return;
    const systemPath = this.#resolver.systemPath(path);
    if (type !== 'directory') {
      fs.unlinkSync(systemPath);
      this.#resolver.forgetAll();
      return;
    }
    this.#options.checkpoint();
    for (const entry of this.#list(path)) this.#removeAll(joinPath(path, entry));
    fs.rmdirSync(systemPath);
    this.#resolver.forgetAll();
  }

  #typeOf(path: TreePath): 'none' | 'directory' | 'link' | 'other' {
    const stat = fs.lstatSync(this.#resolver.systemPath(path), { throwIfNoEntry: false });
    if (stat === undefined) return 'none';
    if (!stat.isDirectory()) return stat.isSymbolicLink() ? 'link' : 'other';
    if ((stat.mode & SETGID) !== 0) this.#inheritsMetadata = true;
    return 'directory';
  }

  /** Creates the entry; what stands in its way is removed first, except a directory under a directory. */
  #create(path: TreePath, name: string, header: TarHeader): void {
    if (this.#tryCreate(path, name, header)) return;
    if (header.typeFlag !== TypeFlag.directory || this.#typeOf(path) !== 'directory') {
      this.#removeAll(path);
      const isCreated = this.#tryCreate(path, name, header);
      assert(isCreated, 'a removed path is free');
    } else this.#finishDirectory(path, name, header);
  }

  /** False when the path is taken: asking the kernel to create is cheaper than looking first. */
  #tryCreate(path: TreePath, name: string, header: TarHeader): boolean {
    const systemPath = this.#resolver.systemPath(path);
    try {
      this.#createByType(systemPath, path, header);
    } catch (error) {
      if (nodeErrorCode(error) === 'EEXIST') return false;
      throw error;
    }
    if (header.typeFlag === TypeFlag.directory) this.#finishDirectory(path, name, header);
    else if (header.typeFlag !== TypeFlag.regular) this.#finishSpecial(systemPath, header);
    return true;
  }

  #createByType(systemPath: string | Buffer, path: TreePath, header: TarHeader): void {
    switch (header.typeFlag) {
      case TypeFlag.regular:
        this.#fd = fs.openSync(systemPath, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, header.mode & 0o777);
        this.#filePath = path;
        this.#fileOffset = 0;
        return;
      case TypeFlag.directory:
        fs.mkdirSync(systemPath, header.mode | OWNER_ALL);
        return;
      case TypeFlag.symlink:
        fs.symlinkSync(toSystemPath(header.linkName), systemPath);
        return;
      case TypeFlag.link:
        fs.linkSync(this.#resolver.systemPath(this.#linkTarget(header.linkName)), systemPath);
        return;
      case TypeFlag.character:
      case TypeFlag.block:
      case TypeFlag.fifo:
        this.#createNode(systemPath, header);
        return;
      case TypeFlag.globalPax:
        // containerd treats it as an entry up to this point: what has its name is removed.
        if (fs.lstatSync(systemPath, { throwIfNoEntry: false }) !== undefined)
          throw new posix.PosixError('open', EEXIST);
        return;
      default:
        throw new ShoalError(
          ErrorCode.UnpackInvalid,
          `Cannot unpack "${shown(header.name)}": tar entry type ${header.typeFlag} is unknown`,
        );
    }
  }

  /** Links in the directory part stay inside the root; the last part is linked to as it is. */
  #linkTarget(linkName: string): TreePath {
    const slash = linkName.lastIndexOf('/') + 1;
    const directory = linkName.slice(0, slash);
    const resolved =
      this.#resolver.resolveCached(directory.slice(0, -1)) ?? this.#resolver.resolve(directory);
    return cleanInRoot(joinPath(resolved, linkName.slice(slash)));
  }

  #createNode(systemPath: string | Buffer, header: TarHeader): void {
    if (header.typeFlag === TypeFlag.fifo) {
      posix.mkfifo(systemPath, header.mode);
      return;
    }
    if (!this.#options.privileged) return;
    const type = header.typeFlag === TypeFlag.character ? posix.FileType.character : posix.FileType.block;
    posix.mknod(systemPath, type | header.mode, header.deviceMajor, header.deviceMinor);
  }

  #finishFile(fd: number, header: TarHeader): void {
    const isOwner = header.uid === this.#uid && header.gid === this.#gid;
    const isChowned = this.#options.privileged && (!isOwner || this.#inheritsMetadata);
    if (isChowned) fs.fchownSync(fd, header.uid, header.gid);
    if (header.pax !== undefined) this.#setXattrs(this.#resolver.systemPath(this.#filePath), header);
    const isModeWrong = (header.mode & (SPECIAL_BITS | this.#umask)) !== 0;
    if (isModeWrong || this.#inheritsMetadata) fs.fchmodSync(fd, header.mode);
    const { atime, mtime } = timesOf(header);
    if (isWhole(atime, mtime)) fs.futimesSync(fd, atime.seconds, mtime.seconds);
    else posix.futimesNs(fd, toNs(atime), toNs(mtime));
  }

  #finishDirectory(path: TreePath, name: string, header: TarHeader): void {
    const systemPath = this.#resolver.systemPath(path);
    this.#implied.delete(path);
    if ((header.mode & SETGID) !== 0) this.#inheritsMetadata = true;
    if (this.#options.privileged) this.#chown(systemPath, header);
    if (header.pax !== undefined) this.#setXattrs(systemPath, header);
    fs.chmodSync(systemPath, this.#needsLateMode(header.mode) ? header.mode | OWNER_ALL : header.mode);
    this.#journal.add({ path: name, mode: header.mode, ...timesOf(header) });
    this.#resolver.remember(path, path);
  }

  #needsLateMode(mode: number): boolean {
    return !this.#options.privileged && (mode & OWNER_ALL) !== OWNER_ALL;
  }

  #finishSpecial(systemPath: string | Buffer, header: TarHeader): void {
    if (header.typeFlag === TypeFlag.globalPax) return;
    const isDevice = header.typeFlag === TypeFlag.character || header.typeFlag === TypeFlag.block;
    if (isDevice && !this.#options.privileged) return;
    if (this.#options.privileged) this.#chown(systemPath, header);
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
    if (name.startsWith('trusted.') || (!isUser && !this.#options.privileged)) return;
    if (name.startsWith('system.posix_acl_default')) this.#inheritsMetadata = true;
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

/** The last time that fits 63 bits of nanoseconds; containerd writes 1970 for anything later, and anything earlier. */
const TIME_MAX: TarTime = { seconds: 9_223_372_036, nanoseconds: 854_775_807 };
const EPOCH: TarTime = { seconds: 0, nanoseconds: 0 };

function timesOf(header: TarHeader): { atime: TarTime; mtime: TarTime } {
  const mtime = bounded(header.mtime);
  const isOwn = header.atime !== undefined && isLater(header.atime, header.mtime);
  return { atime: isOwn ? bounded(header.atime ?? EPOCH) : mtime, mtime };
}

function isLater(a: TarTime, b: TarTime): boolean {
  return a.seconds > b.seconds || (a.seconds === b.seconds && a.nanoseconds > b.nanoseconds);
}

function bounded(time: TarTime): TarTime {
  return time.seconds < 0 || isLater(time, TIME_MAX) ? EPOCH : time;
}

/** Node's own calls take a number of seconds, too coarse for nanoseconds; they are the faster ones otherwise. */
function isWhole(atime: TarTime, mtime: TarTime): boolean {
  return atime.nanoseconds === 0 && mtime.nanoseconds === 0;
}

function toNs(time: TarTime): bigint {
  return BigInt(time.seconds) * 1_000_000_000n + BigInt(time.nanoseconds);
}

function setTimes(path: string | Buffer, atime: TarTime, mtime: TarTime): void {
  if (isWhole(atime, mtime)) fs.lutimesSync(path, atime.seconds, mtime.seconds);
  else posix.lutimesNs(path, toNs(atime), toNs(mtime));
}

/** Names from a tar are not trusted to be short. */
function shown(name: string): string {
  return Buffer.from(name.slice(0, 200), 'latin1').toString();
}

function failedEntry(name: string, error: unknown): unknown {
  const code = nodeErrorCode(error);
  if (error instanceof ShoalError || code === undefined) return error;
  return new ShoalError(ErrorCode.UnpackFailed, `Cannot unpack "${shown(name)}": ${code}`, {
    cause: error,
    facts: { path: shown(name), errno: code },
  });
}
