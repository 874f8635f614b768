import { chmodSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { createConnection, type Server } from 'node:net';
import { dirname } from 'node:path';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';

/** How long a process may take to accept on a socket before that counts as in use but hung, ms. */
const PROBE_TIMEOUT_MS = 1000;
/** `sun_path` of Linux holds 108 bytes with the final zero. */
export const SOCKET_PATH_BYTES_MAX = 107;
const DIRECTORY_MODE = 0o700;
const SOCKET_MODE = 0o600;

/**
 * Listens on a unix socket that only this user may open. Makes its directory (0700), replaces a stale socket, and
 * refuses a path that another process listens on or that is not a socket.
 * @throws ShoalError `ListenFailed`.
 */
export async function listenUnix(server: Server, socketPath: string): Promise<void> {
  if (Buffer.byteLength(socketPath) > SOCKET_PATH_BYTES_MAX) {
    throw listenFailed(socketPath, `the path is longer than ${SOCKET_PATH_BYTES_MAX} bytes`);
  }
  try {
    // Synchronous, because this happens once and `node:fs/promises` is memory that the front does without.
    mkdirSync(dirname(socketPath), { recursive: true, mode: DIRECTORY_MODE });
    await removeStale(socketPath);
    await listen(server, socketPath);
  } catch (error) {
    if (error instanceof ShoalError) throw error;
    throw listenFailed(socketPath, nodeErrorCode(error) ?? 'an unknown failure', error);
  }
}

async function removeStale(socketPath: string): Promise<void> {
  const found = statSync(socketPath, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw listenFailed(socketPath, 'there is something that is not a socket');
  if (await isListenedOn(socketPath)) throw listenFailed(socketPath, 'another process listens there');
  rmSync(socketPath, { force: true });
}

function isListenedOn(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ path: socketPath });
    const settle = (listened: boolean) => {
      socket.destroy();
      resolve(listened);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, () => settle(true));
    socket.once('connect', () => settle(true));
    // A full backlog (EAGAIN) means that somebody listens; only a refusal means that nobody does.
    socket.once('error', (error) => settle(!['ECONNREFUSED', 'ENOENT'].includes(nodeErrorCode(error) ?? '')));
  });
}

function listen(server: Server, socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    // libuv binds and listens inside this call, so the mask holds for the moment between bind and chmod.
    const mask = process.umask(0o177);
    try {
      server.listen(socketPath, () => {
        server.off('error', reject);
        resolve();
      });
      chmodSync(socketPath, SOCKET_MODE);
    } catch (error) {
      if (nodeErrorCode(error) !== 'ENOENT') reject(error);
    } finally {
      process.umask(mask);
    }
  });
}

function listenFailed(socketPath: string, found: string, cause?: unknown): ShoalError {
  return new ShoalError(ErrorCode.ListenFailed, `Cannot listen on "${socketPath}": ${found}`, { cause });
}
