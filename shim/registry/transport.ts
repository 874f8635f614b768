import { readFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import { Agent, type Dispatcher, ProxyAgent, request } from 'undici';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';
import type { TlsSettings } from './hosts-toml.ts';
import type { OriginLimits } from './limits.ts';
import { type ProxySettings, proxyFor } from './proxy-settings.ts';
import { connectorWithRegions } from './socket-regions.ts';

export interface HttpRequest {
  readonly method?: 'GET' | 'HEAD' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal: AbortSignal;
}

export interface HttpResponse {
  readonly status: number;
  /** Host that answered, for messages. */
  readonly host: string;
  /** Values of one header joined by `, `. */
  header(name: string): string | undefined;
  /** Each value of a header that may come more than once. */
  headers(name: string): readonly string[];
  /** Must be read to its end or destroyed. */
  readonly body: Readable;
}

export interface TransportOptions {
  readonly tls: TlsSettings;
  readonly dialTimeoutMs?: number;
  readonly proxy: ProxySettings;
  readonly limits: OriginLimits;
}

/** Read from the body ahead of its consumer, bytes: enough to keep a fast link busy between two turns of the loop. */
const BODY_BUFFER_BYTES = 256 * 1024;
/** Idle connections are kept for the next chunk of the same pull, ms. */
const KEEP_ALIVE_MS = 15_000;

let shared: SecureContext | undefined;

/** HTTP as one host of hosts.toml wants it: its TLS settings, the node's proxies, bounded connections, no redirects. */
export class Transport {
  readonly #options: TransportOptions;
  /** Of certificates that hosts.toml names; else one that all hosts share. */
  readonly #ownContext: SecureContext | undefined;
  readonly #dispatchers = new Map<string, Dispatcher>();

  private constructor(options: TransportOptions, ownContext: SecureContext | undefined) {
    this.#options = options;
    this.#ownContext = ownContext;
  }

  /** @throws ConfigInvalid when a certificate of hosts.toml cannot be used. */
  static async open(options: TransportOptions): Promise<Transport> {
    return new Transport(options, await ownContext(options.tls));
  }

  /** Sends one request; throws what the HTTP client throws. */
  async send(url: URL, { method = 'GET', headers, body, signal }: HttpRequest): Promise<HttpResponse> {
    const dispatcher = this.#dispatcherFor(url.protocol, proxyFor(url, this.#options.proxy) ?? '');
    const response = await request(url, {
      dispatcher,
      method,
      headers,
      signal,
      highWaterMark: BODY_BUFFER_BYTES,
      // undici would hang up after each HEAD, and the next request would pay for a new connection.
      reset: false,
      ...(body !== undefined && { body }),
    });
    const values = (name: string) => [response.headers[name] ?? []].flat();
    return {
      status: response.statusCode,
      host: url.host,
      header: (name) => values(name).join(', ') || undefined,
      headers: values,
      body: response.body,
    };
  }

  /** Closes every connection, busy ones as well. */
  async close(): Promise<void> {
    const dispatchers = [...this.#dispatchers.values()];
    this.#dispatchers.clear();
    await Promise.all(dispatchers.map((dispatcher) => dispatcher.destroy()));
  }

  #dispatcherFor(protocol: string, proxy: string): Dispatcher {
    const name = `${protocol} ${proxy}`;
    const known = this.#dispatchers.get(name);
    if (known !== undefined) return known;
    const options = this.#agentOptions(protocol === 'https:');
    const { connect } = options;
    const made =
      proxy === ''
        ? new Agent({ ...options, connect: connectorWithRegions(connect) })
        : new ProxyAgent({
            ...options,
            uri: proxyUri(proxy),
            requestTls: connect,
            proxyTls: { timeout: connect.timeout },
          });
    this.#dispatchers.set(name, made);
    return made;
  }

  #agentOptions(isSecure: boolean) {
    const { limits, tls, dialTimeoutMs } = this.#options;
    return {
      connections: limits.connectionsMax,
      pipelining: 1,
      // One TCP connection a stream: chunks read side by side then do not share one window.
      allowH2: false,
      headersTimeout: limits.stallTimeoutMs,
      bodyTimeout: limits.stallTimeoutMs,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connect: {
        timeout: dialTimeoutMs ?? limits.connectTimeoutMs,
        ...(isSecure && {
          secureContext: this.#ownContext ?? sharedContext(),
          rejectUnauthorized: tls.skipVerify !== true,
        }),
      },
    };
  }
}

function proxyUri(proxy: string): string {
  if (URL.canParse(proxy)) return proxy;
  throw new ShoalError(ErrorCode.ConfigInvalid, 'Cannot use the proxy of the environment: it is not a URL');
}

/** Reads and parses what the node trusts, which takes 0.1 s, ahead of the first request that wants TLS. */
export function prepareTls(): void {
  sharedContext();
}

function sharedContext(): SecureContext {
  shared ??= createSecureContext({ ca: systemAuthorities() });
  return shared;
}

async function ownContext(tls: TlsSettings): Promise<SecureContext | undefined> {
  if (tls.caPaths.length === 0 && tls.clientPairs.length === 0) return undefined;
  const extra = await Promise.all(tls.caPaths.map(readPem));
  const cert = await Promise.all(tls.clientPairs.map((pair) => readPem(pair.certPath)));
  const key = await Promise.all(tls.clientPairs.map((pair) => readPem(pair.keyPath)));
  try {
    return createSecureContext({ ca: [...systemAuthorities(), ...extra], cert, key });
  } catch (error) {
    const files = [...tls.caPaths, ...tls.clientPairs.map((pair) => pair.certPath)].join('", "');
    const code = nodeErrorCode(error) ?? 'not PEM';
    throw new ShoalError(ErrorCode.ConfigInvalid, `Cannot use certificates "${files}": ${code}`);
  }
}

/** What the node trusts, as containerd does, and what this Node was built with. */
function systemAuthorities(): string[] {
  return [...new Set([...getCACertificates('system'), ...getCACertificates('default')])];
}

async function readPem(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const code = nodeErrorCode(error) ?? 'unknown error';
    throw new ShoalError(ErrorCode.ConfigInvalid, `Cannot read certificate "${path}": ${code}`);
  }
}
