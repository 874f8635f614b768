import * as fs from 'node:fs';
import * as posix from '../base/posix.ts';
import type { TarHeader, TarTime } from './tar-header.ts';

/** The last time that fits 63 bits of nanoseconds; containerd writes 1970 for anything later, and anything earlier. */
const TIME_MAX: TarTime = { seconds: 9_223_372_036, nanoseconds: 854_775_807 };
const EPOCH: TarTime = { seconds: 0, nanoseconds: 0 };

/** Access and modification time as containerd sets them. */
export function timesOf(header: TarHeader): { atime: TarTime; mtime: TarTime } {
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

export function setTimes(path: string | Buffer, atime: TarTime, mtime: TarTime): void {
  if (isWhole(atime, mtime)) fs.lutimesSync(path, atime.seconds, mtime.seconds);
  else posix.lutimesNs(path, toNs(atime), toNs(mtime));
}

export function setFileTimes(fd: number, atime: TarTime, mtime: TarTime): void {
  if (isWhole(atime, mtime)) fs.futimesSync(fd, atime.seconds, mtime.seconds);
  else posix.futimesNs(fd, toNs(atime), toNs(mtime));
}
