import { mkdtempSync, rmSync } from 'node:fs';
import { atExit } from './at-exit.ts';
import { unmountBelow } from './mounts.ts';
import { sweepStaleRoots } from './stale-roots.ts';

/** sun_path holds 108 bytes with the final NUL; containerd and kubelet append names of their own to some. */
const SOCKET_PATH_BYTES_MAX = 99;

/** Not os.tmpdir(): that may be a long path, and unix sockets live below this one. */
const PARENT = '/tmp';

export interface TemporaryRoot extends Disposable {
  readonly path: string;
  /** A path below the root that is short enough for a unix socket. */
  socketPath(name: string): string;
  /** Unmounts all that is mounted below and removes the folder. Also done when the process exits. */
  remove(): void;
}

const swept = new Set<string>();

/**
 * Makes a private folder (0700) with a short path, such as `/tmp/shoal-ctd-4711-Ab12Cd`; the number is this process's.
 *
 * @param label Lower-case letters.
 * @param parent Where folders of dead processes are swept as well.
 */
export function makeTemporaryRoot(label: string, parent = PARENT): TemporaryRoot {
  if (!swept.has(parent)) sweepStaleRoots(parent);
  swept.add(parent);
  const path = mkdtempSync(`${parent}/shoal-${label}-${process.pid}-`);
  const remove = () => {
    takeBack();
    unmountBelow(path);
    rmSync(path, { recursive: true, force: true, maxRetries: 3 });
  };
  const takeBack = atExit(remove);
  return { path, socketPath: (name) => socketPath(`${path}/${name}`), remove, [Symbol.dispose]: remove };
}

function socketPath(path: string): string {
  const bytes = Buffer.byteLength(path);
  if (bytes > SOCKET_PATH_BYTES_MAX) throw new Error(`Cannot use socket path "${path}": ${bytes} bytes long`);
  return path;
}
