/**
 * System calls that Node lacks, bound with koffi. The library is loaded at the first call, so a process that
 * needs none of them pays nothing. Every wrapper is synchronous and throws a `PosixError` with Node's `code`, `errno`
 * and `syscall` fields. A path is a UTF-8 string, or a Buffer where the name is not UTF-8; a NUL byte in it is EINVAL.
 */
import { createRequire } from 'node:module';
import { getSystemErrorMap } from 'node:util';

export type PosixPath = string | Uint8Array;

/** A failed system call, shaped like the errors of node:fs so that `nodeErrorCode` reads both. */
export class PosixError extends Error {
  override readonly name = 'PosixError';
  readonly code: string;
  /** Negative, as in node:fs. */
  readonly errno: number;
  readonly syscall: string;

  constructor(syscall: string, errnoValue: number) {
    const [code, description] = getSystemErrorMap().get(-errnoValue) ?? [`E${errnoValue}`, 'unknown error'];
    super(`${code}: ${description}, ${syscall}`);
    this.code = code;
    this.errno = -errnoValue;
    this.syscall = syscall;
  }
}

/** File type bits of `mknod` (inode(7)). */
export const FileType = { fifo: 0o010000, character: 0o020000, block: 0o060000, regular: 0o100000 } as const;

/** `flock` operations (flock(2)). */
export const LockOperation = { shared: 1, exclusive: 2, unlock: 8, nonBlocking: 4 } as const;

/** `posixFadvise` advice (posix_fadvise(2)). */
export const FileAdvice = { sequential: 2, willNeed: 3, dontNeed: 4 } as const;

/** Options of `prctl` (prctl(2)) that take one number. */
export const ProcessOption = { setParentDeathSignal: 1, setDumpable: 4 } as const;

const EAGAIN = 11;
const EINVAL = 22;
const ENODATA = 61;
/** The kernel's limit for a value and for the list of names (xattr(7)), bytes. */
const XATTR_BYTES_MAX = 65_536;

/** Creates a node of type `mode & S_IFMT`; the umask applies to the rest of `mode`. Numbers are cut to the kernel's 32-bit device. */
export function mknod(path: PosixPath, mode: number, major: number, minor: number): void {
  check('mknod', calls().mknod(cString(path), mode, deviceNumber(major, minor)));
}

export function mkfifo(path: PosixPath, mode: number): void {
  check('mkfifo', calls().mkfifo(cString(path), mode & 0o7777));
}

/** Sets an extended attribute of the path itself, never of a link's target. */
export function lsetxattr(path: PosixPath, name: PosixPath, value: Uint8Array): void {
  check('lsetxattr', calls().lsetxattr(cString(path), cString(name), value, value.length, 0));
}

/** The value, or undefined when the path has no such attribute. */
export function lgetxattr(path: PosixPath, name: PosixPath): Buffer | undefined {
  const buffer = Buffer.allocUnsafe(XATTR_BYTES_MAX);
  const sizeBytes = calls().lgetxattr(cString(path), cString(name), buffer, buffer.length);
  if (sizeBytes < 0 && lastErrno() === ENODATA) return undefined;
  check('lgetxattr', sizeBytes);
  return Buffer.from(buffer.subarray(0, sizeBytes));
}

/** Names of the extended attributes of the path itself, in the kernel's order. */
export function llistxattr(path: PosixPath): string[] {
  const buffer = Buffer.allocUnsafe(XATTR_BYTES_MAX);
  const sizeBytes = calls().llistxattr(cString(path), buffer, buffer.length);
  check('llistxattr', sizeBytes);
  return buffer.toString('utf8', 0, sizeBytes).split('\0').slice(0, -1);
}

/** Sets access and modification time with nanoseconds, of the path itself, never of a link's target. */
export function lutimesNs(path: PosixPath, atimeNs: bigint, mtimeNs: bigint): void {
  check(
    'utimensat',
    calls().utimensat(AT_FDCWD, cString(path), timespecs(atimeNs, mtimeNs), AT_SYMLINK_NOFOLLOW),
  );
}

/** As `lutimesNs`, of an open file. */
export function futimesNs(fd: number, atimeNs: bigint, mtimeNs: bigint): void {
  check('futimens', calls().futimens(fd, timespecs(atimeNs, mtimeNs)));
}

/** Writes out the whole file system that holds `fd`, and waits for it. Takes as long as the disk does. */
export function syncfs(fd: number): void {
  check('syncfs', calls().syncfs(fd));
}

/** Length 0 means to the end of the file. */
export function posixFadvise(fd: number, offset: number, lengthBytes: number, advice: number): void {
  // Unlike the others, posix_fadvise returns the error number.
  const failed = calls().posix_fadvise(fd, offset, lengthBytes, advice);
  if (failed !== 0) throw new PosixError('posix_fadvise', failed);
}

/** Throws EWOULDBLOCK (EAGAIN) when `nonBlocking` is asked and another open file holds the lock. */
export function flock(fd: number, operation: number): void {
  check('flock', calls().flock(fd, operation));
}

/** Copies inside the kernel (a reflink where the file system can) and returns the bytes copied; 0 at the end of the source. */
export function copyFileRange(
  from: { fd: number; offset: number },
  to: { fd: number; offset: number },
  lengthBytes: number,
): number {
  const fromOffset = new BigInt64Array([BigInt(from.offset)]);
  const toOffset = new BigInt64Array([BigInt(to.offset)]);
  const copied = calls().copy_file_range(from.fd, fromOffset, to.fd, toOffset, lengthBytes, 0);
  check('copy_file_range', copied);
  return copied;
}

/** Copies what of the file is in memory, from `offset` on, and returns the bytes copied: 0 where it would wait for a disk. ENOTSUP where the file system cannot tell (preadv2(2)). */
export function readIfCached(fd: number, bytes: Uint8Array, offset: number): number {
  const place = { iov_base: bytes, iov_len: bytes.length };
  const count = calls().preadv2(fd, place, 1, offset, RWF_NOWAIT);
  if (count < 0 && lastErrno() === EAGAIN) return 0;
  check('preadv2', count);
  return count;
}

/** Lets a socket count as readable only when `count` bytes have come, its window is full, or it ended (SO_RCVLOWAT of socket(7)). */
export function setReceiveLowWater(fd: number, count: number): void {
  const value = new Int32Array([count]);
  check('setsockopt', calls().setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, value, value.byteLength));
}

/** Lets a socket take bytes only while fewer than `count` of those that it took have not been sent (TCP_NOTSENT_LOWAT of tcp(7)). */
export function setUnsentLowWater(fd: number, count: number): void {
  const value = new Int32Array([count]);
  check('setsockopt', calls().setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, value, value.byteLength));
}

export function prctl(option: number, argument: number): void {
  check('prctl', calls().prctl(option, argument, 0, 0, 0));
}

/** Gives pages of freed memory back to the system, also those between pieces in use (malloc_trim(3)). */
export function mallocTrim(): void {
  calls().malloc_trim(0);
}

/** Unmaps the pages of a mapping; what they hold comes back from the file behind it when it is touched (madvise(2)). */
export function forgetPages(address: bigint, lengthBytes: number): void {
  check('madvise', calls().madvise(address, lengthBytes, MADV_DONTNEED));
}

const MADV_DONTNEED = 4;
const RWF_NOWAIT = 8;
const SOL_SOCKET = 1;
const SO_RCVLOWAT = 18;
const IPPROTO_TCP = 6;
const TCP_NOTSENT_LOWAT = 25;
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;

const SIGNATURES = {
  mknod: 'int mknod(const void *path, uint mode, uint64_t device)',
  mkfifo: 'int mkfifo(const void *path, uint mode)',
  lsetxattr: 'int lsetxattr(const void *path, const void *name, const void *value, size_t size, int flags)',
  lgetxattr: 'int64_t lgetxattr(const void *path, const void *name, void *value, size_t size)',
  llistxattr: 'int64_t llistxattr(const void *path, void *list, size_t size)',
  utimensat: 'int utimensat(int directory, const void *path, const void *times, int flags)',
  futimens: 'int futimens(int fd, const void *times)',
  syncfs: 'int syncfs(int fd)',
  posix_fadvise: 'int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)',
  flock: 'int flock(int fd, int operation)',
  copy_file_range:
    'int64_t copy_file_range(int from, void *fromOffset, int to, void *toOffset, size_t length, uint flags)',
  preadv2: 'int64_t preadv2(int fd, const iovec *places, int count, int64_t offset, int flags)',
  setsockopt: 'int setsockopt(int fd, int level, int option, const void *value, uint size)',
  prctl: 'int prctl(int option, ulong argument2, ulong argument3, ulong argument4, ulong argument5)',
  malloc_trim: 'int malloc_trim(size_t pad)',
  madvise: 'int madvise(void *address, size_t length, int advice)',
} as const;

type Calls = Record<keyof typeof SIGNATURES, (...values: readonly unknown[]) => number>;

let bound: { calls: Calls; errno: () => number } | undefined;

function load(): NonNullable<typeof bound> {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  koffi.struct('iovec', { iov_base: 'void *', iov_len: 'size_t' });
  const libc = koffi.load(null); // The process itself: whatever libc Node was linked with.
  const entries = Object.entries(SIGNATURES).map(([name, signature]) => [name, libc.func(signature)]);
  bound = { calls: Object.fromEntries(entries) as Calls, errno: () => koffi.errno() };
  return bound;
}

function calls(): Calls {
  return (bound ?? load()).calls;
}

function lastErrno(): number {
  return (bound ?? load()).errno();
}

function check(syscall: string, result: number): void {
  if (result < 0) throw new PosixError(syscall, lastErrno());
}

function cString(text: PosixPath): Buffer {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  if (bytes.includes(0)) throw new PosixError('path', EINVAL);
  const terminated = Buffer.allocUnsafe(bytes.length + 1);
  terminated.set(bytes);
  terminated[bytes.length] = 0;
  return terminated;
}

function timespecs(atimeNs: bigint, mtimeNs: bigint): BigInt64Array {
  return new BigInt64Array([...timespec(atimeNs), ...timespec(mtimeNs)]);
}

/** Nanoseconds must be 0…999,999,999 also before 1970, so the division rounds down. */
function timespec(timeNs: bigint): [bigint, bigint] {
  const NS_PER_SECOND = 1_000_000_000n;
  const fraction = ((timeNs % NS_PER_SECOND) + NS_PER_SECOND) % NS_PER_SECOND;
  return [(timeNs - fraction) / NS_PER_SECOND, fraction];
}

/** Linux' layout of a device number (makedev(3)), cut to the 32 bits that the system call takes. */
function deviceNumber(major: number, minor: number): number {
  return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & ~0xff) << 12)) >>> 0;
}
