import { closeSync, ftruncateSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { makeTemporaryRoot } from '../../test/support/real/temporary-root.ts';

/** All holes: it takes no room on the disk. More than any bench reads; smaller than file systems allow, ext4 16 TiB. */
const FILE_BYTES = 4 * 2 ** 40;
const READ_BYTES = 4 * 2 ** 20;
/** What stays free, so that pages of other files need not make room. */
const FREE_BYTES_MIN = 512 * 2 ** 20;
/** Below this at its first touch, memory came from the hypervisor page by page. */
const COLD_BYTES_PER_SECOND = 0.7e9;
/** Of less, the rate tells nothing. */
const TOLD_BYTES_MIN = 2 ** 30;

/** Memory that is in use, as on a node that has run for weeks. */
export interface UsedMemory extends Disposable {
  /** Uses again what was freed since; before each measurement. */
  refill(): void;
}

/**
 * Fills free memory with pages of a file, clean and the first to make room. A hypervisor may take back what its guest leaves free,
 * within seconds, and give it again page by page at the first touch: 0.25 GB/s instead of 2.4 on a machine with two
 * processors, so that what ran before decided more about a pull than anything else. It leaves pages of files alone.
 */
export function useMemory(): UsedMemory {
  const root = makeTemporaryRoot('memory');
  const file = openSync(join(root.path, 'pages'), 'w+', 0o600);
  ftruncateSync(file, FILE_BYTES);
  let at = 0;
  // Never a page twice: the kernel would take it for one that somebody needs.
  const refill = (): void => {
    at = fill(file, at);
  };
  refill();
  return {
    refill,
    [Symbol.dispose]: () => {
      closeSync(file);
      root.remove();
    },
  };
}

/** Returns where it ended. */
function fill(file: number, from: number): number {
  const buffer = Buffer.alloc(READ_BYTES);
  const startedMs = performance.now();
  const wantedBytes = freeBytes() - FREE_BYTES_MIN;
  let at = from;
  // Where the file has no pages of its own (a temporary folder in memory), free memory does not get less.
  for (; at - from < wantedBytes && freeBytes() > FREE_BYTES_MIN; at += READ_BYTES)
    readSync(file, buffer, 0, READ_BYTES, at);
  const rate = ((at - from) / (performance.now() - startedMs)) * 1000;
  if (at - from > TOLD_BYTES_MIN && rate < COLD_BYTES_PER_SECOND)
    console.error(`memory was cold, and is no more: ${(rate / 1e9).toFixed(2)} GB/s at its first touch`);
  return at;
}

/** Of no use to anybody: what pages of files take is not among it. */
function freeBytes(): number {
  const kilobytes = /^MemFree:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1];
  return Number(kilobytes ?? 0) * 1024;
}
