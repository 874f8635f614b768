import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { componentPath, componentsAvailable, requireRoot } from './components.ts';
import { makeTemporaryRoot } from './temporary-root.ts';

export type FileSystemKind = 'ext4' | 'btrfs' | 'tmpfs';

export interface FileSystem extends AsyncDisposable {
  /** The mount point. */
  readonly path: string;
  readonly kind: FileSystemKind;
  /** Bytes in use, as df counts them. */
  usedBytes(): number;
  /** Unmounts and removes it, even when something still has files open. */
  stop(): Promise<void>;
}

/**
 * Mounts a fresh, empty file system. Measurements need a new one each time: an ext4 without a journal skips recently
 * deleted inodes one by one, so that the second extraction of a tree takes many times as long as the first.
 *
 * @param sizeBytes The sparse file's size, or the limit of a tmpfs.
 */
export async function loopFileSystem(sizeBytes: number, kind: FileSystemKind): Promise<FileSystem> {
  const skip = fileSystemSkipReason(kind);
  if (skip !== null) throw new Error(`Cannot mount "${kind}": ${skip}`);
  const root = makeTemporaryRoot('fs');
  const path = `${root.path}/mnt`;
  mkdirSync(path);
  try {
    if (kind === 'tmpfs') command('mount', '-t', 'tmpfs', '-o', `size=${sizeBytes},mode=755`, 'tmpfs', path);
    else {
      makeImage(kind, `${root.path}/disk.img`, sizeBytes);
      mountImage(`${root.path}/disk.img`, path);
    }
  } catch (error) {
    root.remove();
    throw error;
  }
  const stop = async () => root.remove();
  return { path, kind, usedBytes: () => usedBytes(path), stop, [Symbol.asyncDispose]: stop };
}

/** Null when such a file system can be made here, else one line for a skip message. */
export function fileSystemSkipReason(kind: FileSystemKind): string | null {
  const missing = requireRoot();
  if (missing !== null || kind === 'tmpfs') return missing;
  if (kind === 'btrfs') return componentsAvailable('btrfs-progs') ?? kernelSkipReason('btrfs');
  const found = spawnSync('mkfs.ext4', ['-V'], { env: withSbin(), stdio: 'ignore' }).status === 0;
  return found ? null : 'needs mkfs.ext4: install the package e2fsprogs';
}

/** Null when this kernel knows such a file system, else one line for a skip message. */
export function kernelSkipReason(name: string): string | null {
  const known = readFileSync('/proc/filesystems', 'utf8').split(/\s+/).includes(name);
  return known ? null : `needs a kernel with ${name}: this one has none`;
}

/** A sparse file with an empty file system; neither is mounted nor removed by anybody but the caller. */
export function makeImage(kind: Exclude<FileSystemKind, 'tmpfs'>, image: string, sizeBytes: number): void {
  const file = openSync(image, 'w', 0o600);
  ftruncateSync(file, sizeBytes);
  closeSync(file);
  if (kind === 'btrfs') command(`${componentPath('btrfs-progs')}/mkfs.btrfs`, '-q', image);
  // Inode tables are written by mkfs, not later by the kernel in the background of a measurement.
  else command('mkfs.ext4', '-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0,nodiscard', image);
}

/**
 * The loop device goes past the page cache of the file: what is written would else be kept and copied twice, and throttled
 * for twice as much, which no disk does (an image of 1.5 GB in four layers took 34 s instead of 21).
 */
function mountImage(image: string, path: string): void {
  const device = command('losetup', '--find', '--show', '--direct-io=on', image).trim();
  try {
    command('mount', '-o', 'noatime', device, path);
  } finally {
    // It goes when it is unmounted.
    command('losetup', '--detach', device);
  }
}

function usedBytes(path: string): number {
  const { stdout } = spawnSync('df', ['--block-size=1', '--output=used', path], { encoding: 'utf8' });
  return Number(stdout.trim().split('\n').at(-1));
}

function command(name: string, ...args: readonly string[]): string {
  const result = spawnSync(name, args, { env: withSbin(), encoding: 'utf8' });
  if (result.status !== 0)
    throw new Error(`Cannot run "${name} ${args.join(' ')}": ${result.stderr || result.error}`);
  return result.stdout;
}

/** mkfs.ext4 is in a folder that not every root's PATH has. */
function withSbin(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };
}
