import {
  Agent,
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';
import type { TlsOptions } from 'node:tls';
import { type BodyShape, sendBody } from './gate-body.ts';
import { type Fault, type FaultRule, FaultTable, type InjectedFault, type PathClass } from './gate-faults.ts';
import { GateLog, type GateRequest, type RequestFilter } from './gate-log.ts';
import { type Access, TokenAuthority, type TokenOptions } from './gate-tokens.ts';
import { Pacer } from './pacer.ts';

export interface RegistryGateOptions {
  /** The registry behind, such as `http://127.0.0.1:5000`. */
  readonly upstream: string;
  /** Limit of all answers' bodies together. */
  readonly rateBytesPerSecond?: number;
  /** Faults from the start. */
  readonly faults?: readonly FaultRule[];
  /** Asks for tokens, and gives them out at /token. */
  readonly token?: TokenOptions;
  /** Asks for Basic authentication. */
  readonly basic?: { readonly user: string; readonly password: string };
  /** Serves https; `ca` with `requestCert` and `rejectUnauthorized` asks clients for certificates. */
  readonly tls?: TlsOptions;
  /** Default: one that is free. */
  readonly port?: number;
  /** Default 127.0.0.1. */
  readonly address?: string;
}

export interface RegistryGate extends AsyncDisposable {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  readonly url: string;
  /** Requests and body bytes of the answers since the start or the last reset(). */
  count(filter?: RequestFilter): { requests: number; bytes: number };
  requests(filter?: RequestFilter): readonly GateRequest[];
  reset(): void;
  inject(rule: FaultRule): InjectedFault;
  clearFaults(): void;
  expireTokens(): void;
  /** Undefined lifts the limit. */
  setRate(rateBytesPerSecond: number | undefined): void;
  stop(): Promise<void>;
}

interface Gate {
  readonly options: RegistryGateOptions;
  readonly agent: Agent;
  readonly faults: FaultTable;
  readonly tokens: TokenAuthority | undefined;
  readonly log: GateLog;
  pacer: Pacer | undefined;
  url: string;
}

/**
 * A server in front of a registry that counts, limits the uplink, asks for tokens, and misbehaves on demand.
 * Everything it does not spoil passes through unchanged.
 */
export async function startRegistryGate(options: RegistryGateOptions): Promise<RegistryGate> {
  const gate: Gate = {
    options,
    agent: new Agent({ keepAlive: true }),
    faults: new FaultTable(),
    tokens: options.token && new TokenAuthority(options.token),
    log: new GateLog(),
    pacer: pacerOf(options.rateBytesPerSecond),
    url: '',
  };
  for (const rule of options.faults ?? []) gate.faults.inject(rule);
  const listener = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    // What fails here is a connection that one side has cut, often on purpose.
    handle(gate, incoming, outgoing).catch(() => outgoing.destroy());
  };
  const server = options.tls ? createTlsServer(options.tls, listener) : createServer(listener);
  server.requestTimeout = 0;
  const host = await listen(server, options.port ?? 0, options.address);
  gate.url = `${options.tls ? 'https' : 'http'}://${host}`;
  return gateHandle(gate, server, host);
}

function gateHandle(gate: Gate, server: Server, host: string): RegistryGate {
  const stop = async () => {
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
    gate.agent.destroy();
  };
  return {
    host,
    url: gate.url,
    requests: (filter) => gate.log.select(filter),
    count: (filter) => {
      const matching = gate.log.select(filter);
      return { requests: matching.length, bytes: matching.reduce((sum, entry) => sum + entry.bytes, 0) };
    },
    reset: () => void gate.log.clear(),
    inject: (rule) => gate.faults.inject(rule),
    clearFaults: () => gate.faults.clear(),
    expireTokens: () => gate.tokens?.expireAll(),
    setRate: (rateBytesPerSecond) => {
      gate.pacer = pacerOf(rateBytesPerSecond);
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function handle(gate: Gate, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const entry = gate.log.add(incoming);
  outgoing.once('close', () => {
    entry.status = outgoing.statusCode;
    entry.endedMs = performance.now();
  });
  const fault = gate.faults.next(entry.class, entry.method, entry.path);
  if (fault?.kind === 'expire-tokens') gate.tokens?.expireAll();
  if (fault && answerByFault(fault, incoming, outgoing)) return;
  if (fault?.kind === 'huge-manifest') return sendHugeManifest(gate, outgoing, entry, fault.sizeBytes);
  if (entry.class === 'token' && gate.tokens) return answerToken(gate.tokens, incoming, outgoing);
  if (refuse(gate, incoming, outgoing, entry.class)) return;
  await forward(gate, incoming, outgoing, entry, fault);
}

/** True when the fault is an answer, or the want of one, by itself. */
function answerByFault(fault: Fault, incoming: IncomingMessage, outgoing: ServerResponse): boolean {
  switch (fault.kind) {
    case 'status':
      if (fault.retryAfterSeconds !== undefined) outgoing.setHeader('retry-after', fault.retryAfterSeconds);
      answer(outgoing, fault.status, fault.body ?? errorBody(`FAULT_${fault.status}`));
      return true;
    case 'redirect':
      outgoing.writeHead(307, { location: `${fault.to}${incoming.url}` }).end();
      return true;
    case 'replace':
      answer(outgoing, 200, fault.body, fault.contentType);
      return true;
    case 'drop':
      incoming.socket.destroy();
      return true;
    case 'hang':
      return fault.afterBytes === undefined;
    default:
      return false;
  }
}

/** One long JSON string in pieces: the gate must not need the memory that it makes others need. */
async function sendHugeManifest(gate: Gate, outgoing: ServerResponse, entry: GateRequest, sizeBytes: number) {
  const [open, close] = ['{"schemaVersion":2,"annotations":{"x":"', '"}}'];
  const piece = Buffer.alloc(1 << 16, 'x');
  const body = function* () {
    yield Buffer.from(open);
    for (let left = sizeBytes - open.length - close.length; left > 0; left -= piece.length)
      yield piece.subarray(0, left);
    yield Buffer.from(close);
  };
  outgoing.writeHead(200, {
    'content-type': 'application/vnd.oci.image.manifest.v1+json',
    'content-length': sizeBytes,
  });
  await sendBody(body(), outgoing, bodyShape(gate, entry, undefined));
}

/** By GET alone, as servers do that know nothing of OAuth 2; clients try that after a POST. */
function answerToken(tokens: TokenAuthority, incoming: IncomingMessage, outgoing: ServerResponse): void {
  if (incoming.method !== 'GET') {
    answer(outgoing, 405, errorBody('UNSUPPORTED'));
    return;
  }
  const { searchParams } = new URL(incoming.url ?? '/', 'http://gate');
  const reply = tokens.issue(searchParams.getAll('scope'), incoming.headers.authorization, Date.now());
  if (reply.status === 200) answer(outgoing, 200, JSON.stringify(reply.body));
  else answer(outgoing, 401, errorBody('UNAUTHORIZED'));
}

/** True when the request did not carry what the gate asks for, and was answered so. */
function refuse(
  gate: Gate,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  pathClass: PathClass,
): boolean {
  const { basic } = gate.options;
  const { authorization } = incoming.headers;
  let challenge: string | undefined;
  if (gate.tokens) {
    const wanted = accessOf(incoming, pathClass);
    if (!gate.tokens.permits(authorization, wanted, Date.now()))
      challenge = gate.tokens.challenge(gate.url, wanted);
  } else if (basic) {
    const wanted = Buffer.from(`${basic.user}:${basic.password}`).toString('base64');
    if (authorization !== `Basic ${wanted}`) challenge = 'Basic realm="test"';
  }
  if (challenge === undefined) return false;
  outgoing.setHeader('www-authenticate', challenge);
  answer(outgoing, 401, errorBody('UNAUTHORIZED'));
  return true;
}

async function forward(
  gate: Gate,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  entry: GateRequest,
  fault: Fault | undefined,
): Promise<void> {
  const { authorization, ...headers } = { ...incoming.headers, host: new URL(gate.options.upstream).host };
  const gateAuthorizes = gate.tokens !== undefined || gate.options.basic !== undefined;
  const upstream = request(new URL(entry.path, gate.options.upstream), {
    method: entry.method,
    headers: gateAuthorizes || authorization === undefined ? headers : { ...headers, authorization },
    agent: gate.agent,
  });
  const answered = Promise.withResolvers<IncomingMessage>();
  upstream.once('response', answered.resolve).once('error', answered.reject);
  outgoing.once('close', () => upstream.destroy());
  await Promise.all([pipeline(incoming, upstream), answered.promise]);
  const response = await answered.promise;
  outgoing.writeHead(response.statusCode ?? 502, answerHeaders(response, fault));
  await sendBody(response, outgoing, bodyShape(gate, entry, fault, response));
}

function answerHeaders(
  response: IncomingMessage,
  fault: Fault | undefined,
): Record<string, string | string[]> {
  const { connection: _, 'keep-alive': __, ...headers } = response.headers;
  const length = Number(headers['content-length'] ?? Number.NaN);
  if (fault?.kind === 'wrong-length' && Number.isFinite(length)) {
    headers['content-length'] = String(length + fault.byBytes);
  }
  return Object.fromEntries(
    Object.entries(headers).filter((pair): pair is [string, string] => pair[1] !== undefined),
  );
}

function bodyShape(
  gate: Gate,
  entry: GateRequest,
  fault: Fault | undefined,
  response?: IncomingMessage,
): BodyShape {
  const slow = fault?.kind === 'slow' ? new Pacer(fault.rateBytesPerSecond) : undefined;
  const length = response?.headers['content-length'];
  return {
    firstOffset: response === undefined ? 0 : rangeStart(response),
    contentLength: length === undefined ? undefined : Number(length),
    pacers: () => [gate.pacer, slow].filter((pacer) => pacer !== undefined),
    fault,
    onSent: (bytes) => {
      entry.bytes += bytes;
    },
  };
}

function rangeStart(response: IncomingMessage): number {
  return Number(/^bytes (\d+)-/.exec(response.headers['content-range'] ?? '')?.[1] ?? 0);
}

function accessOf(incoming: IncomingMessage, pathClass: PathClass): Access | undefined {
  const [, repository] = /^\/v2\/(.+)\/(?:manifests|blobs|tags|referrers)\//.exec(incoming.url ?? '') ?? [];
  if (repository === undefined) return undefined;
  const reads = incoming.method === 'GET' || incoming.method === 'HEAD';
  return { repository, action: reads && pathClass !== 'upload' ? 'pull' : 'push' };
}

function pacerOf(rateBytesPerSecond: number | undefined): Pacer | undefined {
  return rateBytesPerSecond === undefined ? undefined : new Pacer(rateBytesPerSecond);
}

function answer(
  outgoing: ServerResponse,
  status: number,
  body: string,
  contentType = 'application/json',
): void {
  outgoing
    .writeHead(status, { 'content-type': contentType, 'content-length': Buffer.byteLength(body) })
    .end(body);
}

function errorBody(code: string): string {
  return JSON.stringify({ errors: [{ code, message: code.toLowerCase() }] });
}

async function listen(server: Server, port: number, address = '127.0.0.1'): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, resolve);
  });
  return `${address}:${(server.address() as AddressInfo).port}`;
}
