import { mkdtempSync, rmSync } from 'node:fs';
import { unmountBelow } from './mounts.ts';

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

/** Makes a private folder (0700) with a short path, such as `/tmp/shoal-ctd-Ab12Cd`. */
export function makeTemporaryRoot(label: string): TemporaryRoot {
  const path = mkdtempSync(`${PARENT}/shoal-${label}-`);
  const remove = () => {
    process.off('exit', remove);
    unmountBelow(path);
    rmSync(path, { recursive: true, force: true, maxRetries: 3 });
  };
  process.on('exit', remove);
  return { path, socketPath: (name) => socketPath(`${path}/${name}`), remove, [Symbol.dispose]: remove };
}

function socketPath(path: string): string {
  const bytes = Buffer.byteLength(path);
  if (bytes > SOCKET_PATH_BYTES_MAX) throw new Error(`Cannot use socket path "${path}": ${bytes} bytes long`);
  return path;
}
