import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import { forwardStream, type IncomingCall } from './forward-stream.ts';
import { listenUnix } from './unix-listener.ts';
import {
  CONNECTION_WINDOW_BYTES,
  SESSION_MEMORY_MB,
  STREAM_WINDOW_BYTES,
  type Upstream,
} from './upstream.ts';

export const PULL_IMAGE_PATH = '/runtime.v1.ImageService/PullImage';

/** Calls running at once on one connection; kubelet keeps tens. More wait at the caller, as HTTP/2 has it. */
export const CALLS_PER_CONNECTION_MAX = 1000;
/** kubelet opens one or two connections, each `crictl` one. */
export const CONNECTIONS_MAX = 256;
/** How long running calls may go on after `close`, ms. */
const CLOSE_GRACE_MS = 1000;

export interface CriServerOptions {
  readonly socketPath: string;
  /** Where every call but PullImage goes. Belongs to the caller, who closes it. */
  readonly containerd: Upstream;
  /** Answers or forwards a PullImage. Must not throw. */
  readonly onPullImage: (call: IncomingCall) => void;
  /** Other calls that are answered here, by path. Must not throw. */
  readonly handlers?: ReadonlyMap<string, (call: IncomingCall) => void>;
}

/** A CRI endpoint on a unix socket. */
export interface CriServer {
  /** Takes no more calls, gives running ones a second, then resets them. */
  close(): Promise<void>;
}

/**
 * Serves CRI on a unix socket: PullImage goes to `onPullImage`, every other call, known or not, to containerd.
 * @throws ShoalError `ListenFailed`.
 */
export async function startCriServer(options: CriServerOptions): Promise<CriServer> {
  const server = createServer({
    maxSessionMemory: SESSION_MEMORY_MB,
    settings: { maxConcurrentStreams: CALLS_PER_CONNECTION_MAX, initialWindowSize: STREAM_WINDOW_BYTES },
  });
  const sessions = new Set<ServerHttp2Session>();
  (server as unknown as { maxConnections: number }).maxConnections = CONNECTIONS_MAX;
  server.on('session', (session) => {
    sessions.add(session);
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    session.on('error', () => undefined);
    session.once('close', () => sessions.delete(session));
  });
  server.on('stream', (stream, _headers, _flags, rawHeaders) =>
    route({ stream: stream as ServerHttp2Stream, headers: rawHeaders }, options),
  );
  // A caller that does not speak HTTP/2 is dropped at once instead of after ten seconds.
  server.on('unknownProtocol', (socket: Socket) => socket.destroy());
  await listenUnix(server, options.socketPath);
  return { close: () => close(server, sessions) };
}

function route(call: IncomingCall, options: CriServerOptions): void {
  call.stream.on('error', () => undefined);
  const path = call.headers[call.headers.indexOf(':path') + 1] ?? '';
  const handler = path === PULL_IMAGE_PATH ? options.onPullImage : options.handlers?.get(path);
  if (handler !== undefined) handler(call);
  else forwardStream(call, options.containerd);
}

async function close(server: Http2Server, sessions: ReadonlySet<ServerHttp2Session>): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  for (const session of sessions) session.close();
  const timer = setTimeout(() => {
    for (const session of sessions) session.destroy();
  }, CLOSE_GRACE_MS);
  await closed;
  clearTimeout(timer);
}
