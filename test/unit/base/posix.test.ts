import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { nodeErrorCode } from '../../../shim/base/errors.ts';
import * as posix from '../../../shim/base/posix.ts';

const test = suite('posix');
const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'shoal-posix-'));
const isRoot = process.getuid?.() === 0;
test.after(() => fs.rmSync(directory, { recursive: true }));

function fileNamed(name: string, content = 'content'): string {
  const file = path.join(directory, name);
  fs.writeFileSync(file, content);
  return file;
}

test('lsetxattr(), lgetxattr() and llistxattr() agree, also on an empty value', () => {
  const file = fileNamed('xattr');
  posix.lsetxattr(file, 'user.a', Buffer.from([1, 0, 2]));
  posix.lsetxattr(file, 'user.empty', Buffer.alloc(0));
  assert.equal([...(posix.lgetxattr(file, 'user.a') ?? [])], [1, 0, 2]);
  assert.is(posix.lgetxattr(file, 'user.empty')?.length, 0);
  assert.is(posix.lgetxattr(file, 'user.none'), undefined);
  assert.equal(
    posix
      .llistxattr(file)
      .filter((name) => name.startsWith('user.'))
      .sort(),
    ['user.a', 'user.empty'],
  );
});

test('a failed call carries the error code of node:fs', () => {
  const missing = path.join(directory, 'missing');
  assert.throws(
    () => posix.lsetxattr(missing, 'user.a', Buffer.alloc(1)),
    (error: unknown) =>
      nodeErrorCode(error) === 'ENOENT' && error instanceof posix.PosixError && error.errno === -2,
  );
});

test('a NUL byte in a path is refused before the call', () => {
  assert.throws(
    () => posix.mkfifo(`${directory}/a\0b`, 0o600),
    (error: unknown) => nodeErrorCode(error) === 'EINVAL',
  );
  assert.not(fs.existsSync(`${directory}/a`));
});

test('mkfifo() takes names that are not UTF-8', () => {
  const name = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0xff, 0xfe])]);
  posix.mkfifo(name, 0o600);
  assert.ok(fs.lstatSync(name).isFIFO());
  fs.rmSync(name);
});

test('mknod() makes devices with large numbers', () => {
  if (!isRoot) return;
  const file = path.join(directory, 'device');
  posix.mknod(file, posix.FileType.character | 0o600, 300, 70_000);
  const { rdev } = fs.lstatSync(file);
  assert.is(rdev, ((70_000 & 0xff) | (300 << 8) | ((70_000 & ~0xff) << 12)) >>> 0);
});

test('lutimesNs() keeps nanoseconds, times before 1970, and does not follow links', () => {
  const file = fileNamed('times');
  const link = path.join(directory, 'link');
  fs.symlinkSync(file, link);
  posix.lutimesNs(link, -1n, 1_600_000_000_123_456_789n);
  posix.lutimesNs(file, 0n, -1_500_000_000n);
  const linkStat = fs.lstatSync(link, { bigint: true });
  assert.is(linkStat.mtimeNs, 1_600_000_000_123_456_789n);
  assert.is(fs.lstatSync(file, { bigint: true }).mtimeNs, -1_500_000_000n);
  const fd = fs.openSync(file, 'r+');
  posix.futimesNs(fd, 5n, 7n);
  fs.closeSync(fd);
  assert.is(fs.lstatSync(file, { bigint: true }).mtimeNs, 7n);
});

test('copyFileRange() copies a range and says 0 at the end', () => {
  const from = fs.openSync(fileNamed('from', '0123456789'), 'r');
  const to = fs.openSync(fileNamed('to', ''), 'r+');
  assert.is(posix.copyFileRange({ fd: from, offset: 2 }, { fd: to, offset: 0 }, 5), 5);
  assert.is(posix.copyFileRange({ fd: from, offset: 10 }, { fd: to, offset: 5 }, 5), 0);
  fs.closeSync(from);
  fs.closeSync(to);
  assert.is(fs.readFileSync(path.join(directory, 'to'), 'utf8'), '23456');
});

test('flock() refuses a second holder', () => {
  const file = fileNamed('lock');
  const first = fs.openSync(file, 'r');
  const second = fs.openSync(file, 'r');
  const { exclusive, nonBlocking, unlock } = posix.LockOperation;
  posix.flock(first, exclusive);
  assert.throws(
    () => posix.flock(second, exclusive | nonBlocking),
    (error: unknown) => nodeErrorCode(error) === 'EAGAIN',
  );
  posix.flock(first, unlock);
  posix.flock(second, exclusive | nonBlocking);
  fs.closeSync(first);
  fs.closeSync(second);
});

test('posixFadvise(), syncfs() and prctl() pass for valid arguments and fail for bad ones', () => {
  const fd = fs.openSync(fileNamed('advice'), 'r');
  posix.posixFadvise(fd, 0, 0, posix.FileAdvice.dontNeed);
  posix.syncfs(fd);
  fs.closeSync(fd);
  posix.prctl(posix.ProcessOption.setDumpable, 1);
  assert.throws(
    () => posix.syncfs(-1),
    (error: unknown) => nodeErrorCode(error) === 'EBADF',
  );
  assert.throws(
    () => posix.posixFadvise(-1, 0, 0, 4),
    (error: unknown) => nodeErrorCode(error) === 'EBADF',
  );
});

test.run();
