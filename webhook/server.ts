import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SecureContextOptions } from 'node:tls';
import type { Logger } from 'pino';
import { type ListenAddress, listenTcp } from '../shim/base/listen-tcp.ts';
import { type AdmissionScope, type AdmissionSettings, decideAdmission } from './admission.ts';
import { formatAllowed, formatDecision, guessUid, readReview } from './admission-review.ts';
import { checkKeyPair, type KeyPair } from './key-pair.ts';
import type { AdmissionResult, WebhookMetrics } from './metrics.ts';
import { BodyBudget, readBody } from './request-body.ts';

export interface WebhookServerOptions {
  readonly listen: ListenAddress;
  readonly keyPair: KeyPair;
  readonly admission: AdmissionSettings;
  readonly metrics: Pick<WebhookMetrics, 'recordAdmission'>;
  readonly logger: Logger;
  /** Of bodies that are being read at one moment. Default 64 MiB. */
  readonly bufferedBytesMax?: number;
}

export interface WebhookServer {
  readonly port: number;
  /** For all connections from now on; those that are open go on. @throws ConfigInvalid, and keeps the one in use. */
  useKeyPair(keyPair: KeyPair): void;
  /** Answers for so long, asking callers to connect elsewhere; then finishes what is under way and ends. */
  close(drainMs: number): Promise<void>;
}

/** Paths of the two entries of the MutatingWebhookConfiguration. */
export const ADMISSION_PATHS: Readonly<Record<AdmissionScope, string>> = {
  namespace: '/mutate/namespace',
  pod: '/mutate/pod',
};

/** Under the timeout of the entries (5 s), so that the answer is ours. */
const ADMISSION_TIMEOUT_MS = 4_000;
/** Go closes idle connections after 90 s; closing one first could lose a request that is under way. */
const KEEP_ALIVE_MS = 120_000;
/** Whoever has not shaken hands, or sent a head, by then holds a connection that others need. */
const OPENING_MS = 10_000;
/** A few API servers, each with a connection for each pod that it is creating. */
const CONNECTIONS_MAX = 1024;
const BUFFERED_BYTES_MAX = 64 << 20;
/** A request that takes longer than this while we end is cut off. */
const FINISH_MS = ADMISSION_TIMEOUT_MS + 500;

/**
 * Answers AdmissionReviews over HTTPS. Every answer allows the pod, with changes or without: what cannot be read, is too
 * large, or comes when there is too much of it, goes through as it is.
 *
 * @throws ShoalError ListenFailed, or ConfigInvalid for a key pair that is none.
 */
export async function startWebhookServer(options: WebhookServerOptions): Promise<WebhookServer> {
  const state = { draining: false, budget: new BodyBudget(options.bufferedBytesMax ?? BUFFERED_BYTES_MAX) };
  const server = createServer({ ...contextOf(options.keyPair), handshakeTimeout: OPENING_MS });
  server.headersTimeout = OPENING_MS;
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.maxConnections = CONNECTIONS_MAX;
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    if (state.draining) response.setHeader('connection', 'close');
    answer(request, response, options, state.budget).catch((error: unknown) => {
      options.logger.error({ err: error }, 'an answer could not be sent');
      response.destroy();
    });
  });
  server.on('tlsClientError', (error) => options.logger.debug({ err: error }, 'TLS handshake failed'));
  const port = await listenTcp(server, options.listen, 'HTTPS');
  return {
    port,
    useKeyPair: (keyPair) => server.setSecureContext(contextOf(keyPair)),
    close: async (drainMs) => {
      state.draining = true;
      await sleep(drainMs);
      await finish(server);
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  options: WebhookServerOptions,
  budget: BodyBudget,
): Promise<void> {
  const scope = scopeOf(request.url ?? '');
  if (scope === undefined) {
    response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' }).end('not found\n');
    return;
  }
  const startedMs = performance.now();
  const signal = AbortSignal.timeout(ADMISSION_TIMEOUT_MS);
  const body = await readBody(request, budget, signal);
  const { result, text } = decide(request, body, scope, options);
  options.metrics.recordAdmission(scope, result, (performance.now() - startedMs) / 1000);
  if (body.end === 'aborted') return;
  const size = Buffer.byteLength(text);
  const unread = !request.complete;
  response.writeHead(200, {
    'content-type': 'application/json',
    'content-length': size,
    ...(unread && { connection: 'close' }),
  });
  response.end(text);
}

interface Answer {
  readonly result: AdmissionResult;
  readonly text: string;
}

function decide(
  request: IncomingMessage,
  body: Awaited<ReturnType<typeof readBody>>,
  scope: AdmissionScope,
  { admission, logger }: WebhookServerOptions,
): Answer {
  const problem = problemOf(request) ?? (body.end === 'whole' ? undefined : body.end);
  if (problem !== undefined) {
    logger.warn({ scope, problem }, 'let through unseen');
    return { result: problem, text: formatAllowed(guessUid(body.bytes)) };
  }
  try {
    const review = readReview(body.bytes);
    if (review.kind === 'other') return { result: review.why, text: formatAllowed(review.uid) };
    const decision = decideAdmission(review.pod, scope, admission);
    return { result: decision.reason, text: formatDecision(review.uid, decision) };
  } catch (error) {
    // Ours, by all that is known; the pod must not pay for it.
    logger.error({ err: error, scope }, 'let through after a failure');
    return { result: 'failed', text: formatAllowed(guessUid(body.bytes)) };
  }
}

function problemOf(request: IncomingMessage): 'wrong-method' | 'wrong-content-type' | undefined {
  if (request.method !== 'POST') return 'wrong-method';
  const type = request.headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase();
  const encoding = request.headers['content-encoding'] ?? 'identity';
  return type === 'application/json' && encoding === 'identity' ? undefined : 'wrong-content-type';
}

/** The API server appends `?timeout=5s`. */
function scopeOf(url: string): AdmissionScope | undefined {
  const path = url.split('?', 1)[0];
  if (path === ADMISSION_PATHS.namespace) return 'namespace';
  return path === ADMISSION_PATHS.pod ? 'pod' : undefined;
}

function contextOf(keyPair: KeyPair): SecureContextOptions {
  checkKeyPair(keyPair);
  return { cert: keyPair.certificatePem, key: keyPair.keyPem, minVersion: 'TLSv1.2' };
}

async function finish(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), FINISH_MS);
  await closed;
  clearTimeout(timer);
}
