import * as fs from 'node:fs';
import { assert } from '../base/assert.ts';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';
import * as posix from '../base/posix.ts';
import { DirectoryJournal } from './directory-journal.ts';
import { failedEntry, shownName } from './entry-error.ts';
import { EntryMetadata, OWNER_ALL } from './entry-metadata.ts';
import { setTimes, timesOf } from './entry-times.ts';
import { ImpliedDirectories } from './implied-directories.ts';
import { PathSet } from './path-set.ts';
import { cleanInRoot, joinPath, RootResolver, splitPath, type TreePath, toSystemPath } from './root-path.ts';
import type { TarSink } from './tar-decoder.ts';
import { type TarHeader, TypeFlag } from './tar-header.ts';
import { isWhiteout, type PathType, Whiteouts } from './whiteouts.ts';

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

const IMPLIED_MODE = 0o755;
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
  readonly #implied: ImpliedDirectories;
  readonly #metadata: EntryMetadata;
  readonly #whiteouts: Whiteouts;
  /** Paths that this layer wrote, which its own opaque markers spare; overlay needs none. */
  readonly #written: PathSet | undefined;
  #claimedBytes = 0;
  #entries = 0;
  #fd = -1;
  #filePath: TreePath = '';
  #fileOffset = 0;

  constructor(options: TreeWriterOptions) {
    this.#options = options;
    this.#resolver = new RootResolver(Buffer.from(options.root).toString('latin1'), options.checkpoint);
    this.#written = options.mode === 'merge' ? new PathSet() : undefined;
    this.#implied = new ImpliedDirectories((path) => this.#typeOf(path) === 'directory');
    const meetsLower = options.mode === 'merge' && fs.readdirSync(options.root).length > 0;
    this.#metadata = new EntryMetadata(options.privileged, meetsLower);
    this.#metadata.noteDirectory(fs.statSync(options.root).mode);
    this.#whiteouts = new Whiteouts({
      ...options,
      resolver: this.#resolver,
      written: this.#written,
      typeOf: (path) => this.#typeOf(path),
    });
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
      this.#metadata.finishFile(fd, () => this.#resolver.systemPath(this.#filePath), header);
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
        if (this.#metadata.needsLateMode(record.mode)) fs.chmodSync(path, record.mode);
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
    return this.#implied.list();
  }

  #claim(header: TarHeader): void {
    const isFile = header.typeFlag === TypeFlag.regular;
    this.#claimedBytes += isFile ? header.sizeBytes : 0;
    if (this.#claimedBytes <= this.#options.unpackedBytesMax) return;
    throw new ShoalError(
      ErrorCode.LimitExceeded,
      `Cannot unpack "${shownName(header.name)}": the layer claims more than ${this.#options.unpackedBytesMax} bytes`,
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
    if (isWhiteout(base)) this.#whiteouts.apply(parent, base, header);
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
    if (this.#metadata.isModeUnsure(IMPLIED_MODE)) fs.chmodSync(systemPath, IMPLIED_MODE);
    this.#implied.add(path);
  }

  #typeOf(path: TreePath): PathType {
    const stat = fs.lstatSync(this.#resolver.systemPath(path), { throwIfNoEntry: false });
    if (stat === undefined) return 'none';
    if (!stat.isDirectory()) return stat.isSymbolicLink() ? 'link' : 'other';
    this.#metadata.noteDirectory(stat.mode);
    return 'directory';
  }

  /** Creates the entry; what stands in its way is removed first, except a directory under a directory. */
  #create(path: TreePath, name: string, header: TarHeader): void {
    if (this.#tryCreate(path, name, header)) return;
    if (header.typeFlag !== TypeFlag.directory || this.#typeOf(path) !== 'directory') {
      this.#whiteouts.removeAll(path);
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
    else if (header.typeFlag !== TypeFlag.regular) this.#metadata.finishSpecial(systemPath, header);
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
          `Cannot unpack "${shownName(header.name)}": tar entry type ${header.typeFlag} is unknown`,
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

  #finishDirectory(path: TreePath, name: string, header: TarHeader): void {
    const systemPath = this.#resolver.systemPath(path);
    this.#implied.delete(path);
    this.#metadata.finishDirectory(systemPath, header);
    this.#journal.add({ path: name, mode: header.mode, ...timesOf(header) });
    this.#resolver.remember(path, path);
  }
}
