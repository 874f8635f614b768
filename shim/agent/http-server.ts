import { createServer, type Server } from 'node:http';
import { listenTcp } from '../base/listen-tcp.ts';
import { splitHostPort } from '../config/setting.ts';
import { listenUnix } from '../cri/unix-listener.ts';
import type { ObserveHandler } from '../observe/exporter.ts';

/** containerd's parallel downloads of several pulls, a scraper, overlaybd's devices. */
const CONNECTIONS_MAX = 1024;

/**
 * The local HTTP service. It holds no registry content: `/v2/…` is answered 404, so that containerd goes to the next host
 * of its hosts.toml.
 * @throws ListenFailed
 */
export async function startHttpServer(listen: string, observe: ObserveHandler | undefined): Promise<Server> {
  const server = createServer((request, response) => {
    if (observe?.(request, response) === true) return;
    response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' }).end('not found\n');
  });
  server.maxConnections = CONNECTIONS_MAX;
  if (listen.startsWith('/')) {
    await listenUnix(server, listen);
    return server;
  }
  await listenTcp(server, splitHostPort(listen), 'HTTP');
  return server;
}

/** Ends a server and what is connected to it. */
export async function closeServer(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeAllConnections();
  await closed;
}
