import type { Digest } from '../base/digest.ts';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import { Authorizer } from './authorizer.ts';
import type { HostCredentials } from './credentials.ts';
import type { RegistryHost } from './hosts-toml.ts';
import { release } from './http-body.ts';
import { isPlainHttpAnswer, mapHttpError } from './http-error.ts';
import { REDIRECT_LIFE_MS, REDIRECT_TARGETS_MAX, REDIRECTS_MAX } from './limits.ts';
import type { PlainHosts } from './plain-hosts.ts';
import type { Redactor } from './redaction.ts';
import type { HttpResponse, Transport } from './transport.ts';

export interface HostClientOptions {
  readonly config: RegistryHost;
  readonly transport: Transport;
  /** What this host may be told. */
  readonly credentials: HostCredentials;
  readonly repository: string;
  /** Host of the reference, told to mirrors as `ns`. */
  readonly namespace: string;
  readonly userAgent: string;
  readonly redactor: Redactor;
  readonly closing: AbortSignal;
  /** What was found out about hosts that may answer without TLS. */
  readonly plainHosts: PlainHosts;
}

export interface HostRequest {
  /** What follows `/<repository>/`: `manifests/latest`. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Default GET. */
  readonly method?: 'GET' | 'HEAD';
  /** For messages. */
  readonly doing: string;
  readonly signal: AbortSignal;
  /** Remembers where this blob is redirected to, for its other ranges. */
  readonly blob?: Digest;
}

interface Followed {
  readonly response: HttpResponse;
  readonly url: URL;
  /** The Authorization header that the last hop carried. */
  readonly sent: string | undefined;
}

const REDIRECT_STATUSES = new Set([301, 302, 303, 307, 308]);
/** What an expired signed URL answers. */
const EXPIRED_STATUSES = new Set([400, 401, 403, 404, 410]);

/** Requests to one host of a registry: its path, headers, authentication, redirects and plain-HTTP fallback. */
export class HostClient {
  readonly #options: HostClientOptions;
  readonly #authorizers = new Map<string, Authorizer>();
  readonly #redirectTargets = new Map<Digest, { url: URL; untilMs: number }>();
  #scheme: 'http' | 'https';

  constructor(options: HostClientOptions) {
    this.#options = options;
    const { config, plainHosts } = options;
    const isPlain = config.httpFallback && plainHosts.has(config.host, Date.now());
    this.#scheme = isPlain ? 'http' : config.scheme;
  }

  get config(): RegistryHost {
    return this.#options.config;
  }

  /** Sends a GET (or HEAD), authenticates once when asked to, follows redirects. Gives the final response, whatever its status. */
  async get(request: HostRequest): Promise<HttpResponse> {
    const known = request.blob && this.#targetOf(request.blob);
    if (request.blob !== undefined && known !== undefined) {
      const { response } = await this.#follow(known, request);
      if (!EXPIRED_STATUSES.has(response.status)) return response;
      release(response);
      this.#redirectTargets.delete(request.blob);
    }
    return this.#getAuthorized(request);
  }

  /** One answer to a challenge for each host on the way: a 401 to that answer is final. */
  async #getAuthorized(request: HostRequest): Promise<HttpResponse> {
    const challenged = new Set<string>();
    for (;;) {
      const followed = await this.#followFromHere(request);
      const { response, url, sent } = followed;
      if (response.status !== 401 || challenged.has(url.host)) return response;
      challenged.add(url.host);
      const authorizer = this.#authorizerFor(url);
      if (!(await this.#answer(authorizer, followed, sent, request))) return response;
      release(response);
    }
  }

  async #answer(
    authorizer: Authorizer,
    { response, url }: Followed,
    sent: string | undefined,
    request: HostRequest,
  ) {
    try {
      return await authorizer.answer(response, sent, url.protocol === 'http:', request.signal);
    } catch (error) {
      release(response);
      throw mapHttpError(error, request.doing, url.host, request.signal);
    }
  }

  async #followFromHere(request: HostRequest): Promise<Followed> {
    const start = this.#url(request.path);
    const followed = await this.#follow(start, request);
    if (request.blob !== undefined && followed.url.host !== start.host && followed.response.status < 300)
      this.#rememberTarget(request.blob, followed.url);
    return followed;
  }

  async #follow(start: URL, request: HostRequest): Promise<Followed> {
    let url = start;
    for (let hop = 0; hop <= REDIRECTS_MAX; hop++) {
      const { response, url: asked, sent } = await this.#send(url, request);
      if (!REDIRECT_STATUSES.has(response.status)) return { response, url: asked, sent };
      release(response);
      url = redirectTarget(response, asked, request.doing);
    }
    throw protocol(request.doing, `${this.config.host} redirected more than ${REDIRECTS_MAX} times`);
  }

  async #send(url: URL, request: HostRequest): Promise<Followed> {
    const { doing, signal } = request;
    const mayBePlain = this.config.httpFallback && url.host === this.#url('').host;
    try {
      const followed = await this.#sendOnce(url, request);
      // What a server says that speaks TLS by now.
      if (mayBePlain && followed.response.status === 400) this.#options.plainHosts.forget(url.host);
      return followed;
    } catch (error) {
      this.#options.plainHosts.forget(url.host);
      if (!(mayBePlain && url.protocol === 'https:' && isPlainHttpAnswer(error)))
        throw mapHttpError(error, doing, url.host, signal);
    }
    this.#scheme = 'http';
    this.#options.plainHosts.note(url.host, Date.now());
    const plain = new URL(url.href.replace(/^https:/, 'http:'));
    return this.#sendOnce(plain, request).catch((error: unknown) => {
      throw mapHttpError(error, doing, url.host, signal);
    });
  }

  async #sendOnce(url: URL, request: HostRequest): Promise<Followed> {
    const { config, transport, userAgent } = this.#options;
    const { method = 'GET', signal } = request;
    const isOwn = url.origin === this.#url('').origin;
    // Only who asked is answered: another host of a redirect gets neither our header nor that of hosts.toml.
    const sent = await this.#authorizers.get(url.origin)?.header(signal);
    const headers = {
      'user-agent': userAgent,
      ...(isOwn && config.headers),
      ...request.headers,
      // Ranges and digests are those of the stored bytes.
      'accept-encoding': 'identity',
      ...(sent !== undefined && { authorization: sent }),
    };
    return { response: await transport.send(url, { method, headers, signal }), url, sent };
  }

  #authorizerFor(url: URL): Authorizer {
    const known = this.#authorizers.get(url.origin);
    if (known !== undefined) return known;
    const { config, transport, credentials, repository, redactor, closing } = this.#options;
    const isOwn = url.origin === this.#url('').origin;
    const made = new Authorizer({
      host: url.host,
      repository,
      credentials: isOwn ? credentials : { kind: 'anonymous' },
      headers: isOwn ? config.headers : {},
      transport,
      redactor,
      closing,
    });
    this.#authorizers.set(url.origin, made);
    return made;
  }

  #url(path: string): URL {
    const { config, repository, namespace } = this.#options;
    const url = new URL(`${this.#scheme}://${config.host}${config.path}/${repository}/${path}`);
    const isHub = namespace === 'docker.io' && config.host === 'registry-1.docker.io';
    if (config.host !== namespace && !isHub) url.searchParams.set('ns', namespace);
    return url;
  }

  #targetOf(blob: Digest): URL | undefined {
    const target = this.#redirectTargets.get(blob);
    if (target === undefined || Date.now() < target.untilMs) return target?.url;
    this.#redirectTargets.delete(blob);
    return undefined;
  }

  #rememberTarget(blob: Digest, url: URL): void {
    const oldest = this.#redirectTargets.keys().next().value;
    if (oldest !== undefined && this.#redirectTargets.size >= REDIRECT_TARGETS_MAX)
      this.#redirectTargets.delete(oldest);
    this.#redirectTargets.set(blob, { url, untilMs: Date.now() + REDIRECT_LIFE_MS });
  }
}

/** Where a redirect leads. Never from TLS to plain HTTP, and logins in URLs are dropped. */
function redirectTarget(response: HttpResponse, from: URL, doing: string): URL {
  const location = response.header('location');
  if (location === undefined || !URL.canParse(location, from.href))
    throw protocol(doing, `${from.host} redirected to nowhere`);
  const url = new URL(location, from);
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw protocol(doing, `${from.host} redirected to ${url.protocol}, https wanted`);
  if (from.protocol === 'https:' && url.protocol === 'http:')
    throw protocol(doing, `${from.host} redirected from https to http on ${url.host}`);
  url.username = '';
  url.password = '';
  url.hash = '';
  return url;
}

function protocol(doing: string, found: string): ShoalError {
  return new ShoalError(ErrorCode.RegistryProtocol, `Cannot ${doing}: ${found}`);
}
