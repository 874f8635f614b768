import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Registry } from 'prom-client';
import { type ListenAddress, listenTcp } from '../shim/base/listen-tcp.ts';

export interface HealthServerOptions {
  readonly listen: ListenAddress;
  readonly registry: Registry;
  /** Undefined when admissions can be answered, else the reason in a few words. */
  readonly unreadyBecause: () => string | undefined;
}

export interface HealthServer {
  readonly port: number;
  close(): Promise<void>;
}

/** Kubelet's probes and a scraper. */
const CONNECTIONS_MAX = 64;
const REQUEST_TIMEOUT_MS = 10_000;

/**
 * `/healthz` (the process turns), `/readyz` (send admissions here), `/metrics`; plain HTTP.
 *
 * @throws ShoalError ListenFailed
 */
export async function startHealthServer(options: HealthServerOptions): Promise<HealthServer> {
  const server = createServer((request, response) => {
    answer(request, response, options).catch(() => response.destroy());
  });
  server.maxConnections = CONNECTIONS_MAX;
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  const port = await listenTcp(server, options.listen, 'HTTP');
  return {
    port,
    close: async () => {
      const closed = new Promise<void>((done) => server.close(() => done()));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { registry, unreadyBecause }: HealthServerOptions,
): Promise<void> {
  const path = (request.url ?? '').split('?', 1)[0];
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { allow: 'GET, HEAD' }).end();
  } else if (path === '/metrics') {
    response.writeHead(200, { 'content-type': registry.contentType }).end(await registry.metrics());
  } else if (path === '/healthz') {
    response.writeHead(200, PLAIN_TEXT).end('ok\n');
  } else if (path === '/readyz') {
    const reason = unreadyBecause();
    response.writeHead(reason === undefined ? 200 : 503, PLAIN_TEXT).end(`${reason ?? 'ok'}\n`);
  } else {
    response.writeHead(404, PLAIN_TEXT).end('not found\n');
  }
}

const PLAIN_TEXT = { 'content-type': 'text/plain; charset=utf-8' };
