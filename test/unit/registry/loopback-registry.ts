import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import * as assert from 'uvu/assert';
import { type Digest, digestOf } from '../../../shim/base/digest.ts';
import { type ErrorCode, isShoalError, type ShoalError } from '../../../shim/base/errors.ts';
import { type OpenOriginOptions, openOrigin } from '../../../shim/registry/open-origin.ts';
import type { Origin } from '../../../shim/registry/origin.ts';
import { parseReference } from '../../../shim/registry/reference.ts';

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

export interface LoopbackServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  readonly seen: SeenRequest[];
  /** Connections that are open now. */
  connections(): Promise<number>;
}

export type Handler = (request: SeenRequest, response: ServerResponse) => void;

export interface TlsFiles {
  readonly key: string;
  readonly cert: string;
  readonly ca?: string;
}

/** A real server on a free loopback port; `handle` decides how well it behaves. */
export async function startServer(handle: Handler, tls?: TlsFiles): Promise<LoopbackServer> {
  const seen: SeenRequest[] = [];
  const listener: RequestListener = async (message, response) => {
    const body = (await buffer(message)).toString();
    const request = { method: message.method ?? '', path: message.url ?? '', headers: message.headers, body };
    seen.push(request);
    handle(request, response);
  };
  const server = tls
    ? createTlsServer({ ...tls, ...(tls.ca && { requestCert: true, rejectUnauthorized: true }) }, listener)
    : createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    host: `127.0.0.1:${port}`,
    port,
    seen,
    connections: () => new Promise((resolve) => server.getConnections((_, count) => resolve(count))),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export const MANIFEST = Buffer.from(
  JSON.stringify({ schemaVersion: 2, config: {}, layers: [], note: 'any bytes will do' }),
);
export const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
export const BLOB = Buffer.alloc(3_000_000, 'a blob whose bytes tell where they are;');
export const BLOB_DIGEST: Digest = digestOf(BLOB);
export const MANIFEST_DIGEST: Digest = digestOf(MANIFEST);

/** Serves `MANIFEST` under any tag and `BLOB`, with ranges, as the distribution spec wants it. */
export const wellBehaved: Handler = (request, response) => {
  if (request.path.includes('/manifests/')) return sendManifest(response);
  if (!request.path.includes(BLOB_DIGEST))
    return sendError(response, 404, 'BLOB_UNKNOWN', 'blob unknown to registry');
  return sendRange(request, response);
};

export function sendManifest(response: ServerResponse): void {
  response.setHeader('content-type', MANIFEST_TYPE);
  response.setHeader('docker-content-digest', MANIFEST_DIGEST);
  response.end(MANIFEST);
}

export function sendRange(request: SeenRequest, response: ServerResponse): void {
  const [, first = '0', last = ''] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
  const end = last === '' ? BLOB.length - 1 : Number(last);
  const part = BLOB.subarray(Number(first), end + 1);
  response.writeHead(206, {
    'content-range': `bytes ${first}-${end}/${BLOB.length}`,
    'content-length': part.length,
  });
  response.end(part);
}

export function sendError(response: ServerResponse, status: number, code = 'UNKNOWN', message = 'no'): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ errors: [{ code, message, detail: null }] }));
}

/** Short bounds, so that a test of what takes long does not. */
const FAST_LIMITS = { retryDelayMs: 5, retriesMax: 1, stallTimeoutMs: 30_000 };

/** An origin for `library/app:v1` of that server, closed at the end of the scope. */
export function originOf(
  server: { readonly host: string },
  options: Partial<OpenOriginOptions> = {},
): Origin & AsyncDisposable {
  const reference = options.reference ?? parseReference(`${server.host}/library/app:v1`);
  const origin = openOrigin({ ...options, reference, limits: { ...FAST_LIMITS, ...options.limits } });
  return Object.assign(origin, { [Symbol.asyncDispose]: () => origin.close() });
}

export async function readRange(origin: Origin, offsetBytes: number, lengthBytes: number): Promise<Buffer> {
  const range = { offsetBytes, lengthBytes };
  return buffer(await origin.readBlob(BLOB_DIGEST, BLOB.length, range, neverAborted()));
}

export function neverAborted(): AbortSignal {
  return new AbortController().signal;
}

export function challengeBasic(response: ServerResponse): void {
  response.setHeader('www-authenticate', 'Basic realm="registry"');
  sendError(response, 401, 'UNAUTHORIZED', 'authentication required');
}

export async function withHosts(
  server: Pick<LoopbackServer, 'host'>,
  toml: string,
  work: (configPath: string) => Promise<void>,
): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'shoal-origin-'));
  try {
    await mkdir(join(root, server.host));
    await writeFile(join(root, server.host, 'hosts.toml'), toml);
    await work(root);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

/** The error that `work` must fail with. */
export async function assertFails(
  work: Promise<unknown>,
  code: ErrorCode,
  pattern = /^Cannot /,
): Promise<ShoalError> {
  const error = await work.then(
    () => new Error('it succeeded'),
    (reason: unknown) => reason,
  );
  if (!isShoalError(error, code)) throw new Error(`${code} wanted: ${error}`);
  assert.match(error.message, pattern);
  return error;
}

export async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadlineMs = Date.now() + 5000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadlineMs, 'nothing happened for 5 s');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
