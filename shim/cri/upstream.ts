import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';
import { createConnection } from 'node:net';
import { nodeErrorCode } from '../base/errors.ts';

/**
 * What one connection may hold unread over all its streams. Far above one stream's window, so that a few streams
 * whose readers have stopped cannot stop the others.
 */
export const CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024;
/** What one stream may send before its reader has taken it. */
export const STREAM_WINDOW_BYTES = 256 * 1024;
/** Memory one session may use before it refuses new streams, MB. Above one 16 MiB message in each direction. */
export const SESSION_MEMORY_MB = 64;

/**
 * A gRPC server behind a unix socket. One connection is shared by all calls and is made again, by the next call,
 * after it was lost or the server said that it goes away.
 */
export class Upstream {
  readonly name: string;
  readonly socketPath: string;
  #session: ClientHttp2Session | undefined;
  readonly #leaving = new Set<ClientHttp2Session>();
  #lastError: string | undefined;

  /** @param name What messages call it: `containerd` or `the agent`. */
  constructor(name: string, socketPath: string) {
    this.name = name;
    this.socketPath = socketPath;
  }

  /** Opens a stream with this header block. Failures arrive at the stream, as its `error` or `close`. */
  open(
    headers: readonly string[],
    endStream: boolean,
  ): { stream: ClientHttp2Stream; session: ClientHttp2Session } {
    const session = this.#current();
    const stream = session.request(headers as string[], { endStream });
    return { stream, session };
  }

  /** Why the server could not be used, for a status message. */
  describeLoss(): string {
    return `Cannot reach ${this.name} at "${this.socketPath}": ${this.#lastError ?? 'the connection was lost'}`;
  }

  close(): void {
    for (const session of [this.#session, ...this.#leaving]) session?.destroy();
    this.#session = undefined;
  }

  #current(): ClientHttp2Session {
    const session = this.#session;
    if (session !== undefined && !session.closed && !session.destroyed) return session;
    return this.#connect();
  }

  #connect(): ClientHttp2Session {
    this.#lastError = undefined;
    const session = connectUnix(this.socketPath, (error) => {
      this.#lastError = nodeErrorCode(error) ?? error.message;
    });
    this.#session = session;
    session.on('error', () => undefined);
    session.on('goaway', () => this.#retire(session));
    session.on('close', () => {
      this.#leaving.delete(session);
      if (this.#session === session) this.#session = undefined;
    });
    return session;
  }

  /** Lets running calls end on a session that takes no new ones. */
  #retire(session: ClientHttp2Session): void {
    if (this.#session !== session) return;
    this.#session = undefined;
    this.#leaving.add(session);
  }
}

/**
 * An HTTP/2 session without TLS on a unix socket, with windows that fit CRI. The caller listens for `error`.
 * @param onSocketError Told of the reason before the session's streams are: its own `error` comes after them.
 */
export function connectUnix(socketPath: string, onSocketError?: (error: Error) => void): ClientHttp2Session {
  const session = connect('http://localhost', {
    createConnection: () => {
      const socket = createConnection({ path: socketPath });
      if (onSocketError !== undefined) socket.once('error', onSocketError);
      return socket;
    },
    maxSessionMemory: SESSION_MEMORY_MB,
    settings: { initialWindowSize: STREAM_WINDOW_BYTES, enablePush: false },
  });
  session.once('connect', () => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
  return session;
}
