import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import { listenTcp } from '../base/listen-tcp.ts';
import type { Metrics } from './metrics.ts';

export interface ObserveHandlerOptions {
  readonly metrics: Pick<Metrics, 'render'>;
  /** Whether the agent can do its work; undefined when it can, else the reason in a few words. */
  readonly unhealthyBecause: () => string | undefined;
  /** What `/status` tells, as JSON. Must hold no secrets. */
  readonly status: () => unknown;
}

/** Answers the request if it is one of `/metrics`, `/healthz`, `/status`, and tells whether it was. */
export type ObserveHandler = (request: IncomingMessage, response: ServerResponse) => boolean;

export interface Exporter {
  readonly host: string;
  readonly port: number;
  close(): Promise<void>;
}

/** Scrapers and probes, not a public service. */
const connectionsMax = 64;
/** A request has no body; who has not sent its head by then never will, ms. */
const requestTimeoutMs = 10_000;

/** For a port of its own (`startExporter`) or for mounting on the agent's HTTP port. */
export function createObserveHandler(options: ObserveHandlerOptions): ObserveHandler {
  return (request, response) => {
    const path = (request.url ?? '').split('?', 1)[0] ?? '';
    const answer = answers[path];
    if (answer === undefined) return false;
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.writeHead(405, { allow: 'GET, HEAD' }).end();
      return true;
    }
    answer(options).then(
      ({ status, contentType, text }) => {
        response.writeHead(status, {
          'content-type': contentType,
          'content-length': Buffer.byteLength(text),
        });
        response.end(request.method === 'HEAD' ? undefined : text);
      },
      () => response.writeHead(500).end(),
    );
    return true;
  };
}

interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly text: string;
}

const plainText = 'text/plain; charset=utf-8';

const answers: Readonly<Record<string, (options: ObserveHandlerOptions) => Promise<Answer>>> = {
  '/metrics': async ({ metrics }) => ({ status: 200, ...(await metrics.render()) }),
  '/healthz': async ({ unhealthyBecause }) => {
    const reason = unhealthyBecause();
    return { status: reason === undefined ? 200 : 503, contentType: plainText, text: `${reason ?? 'ok'}\n` };
  },
  '/status': async ({ status }) => ({
    status: 200,
    contentType: 'application/json',
    text: `${JSON.stringify(status())}\n`,
  }),
};

/**
 * Serves `handler` on a port of its own; port 0 takes any free one.
 *
 * @throws ShoalError ListenFailed
 */
export async function startExporter(
  address: { readonly host: string; readonly port: number },
  handler: ObserveHandler,
): Promise<Exporter> {
  const listener: RequestListener = (request, response) => {
    if (!handler(request, response))
      response.writeHead(404, { 'content-type': plainText }).end('not found\n');
  };
  const server = createServer(
    { requestTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs },
    listener,
  );
  server.maxConnections = connectionsMax;
  const port = await listenTcp(server, address, 'metrics');
  return { host: address.host, port, close: () => close(server) };
}

function close(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  server.closeAllConnections();
  return promise;
}
