import type { Readable } from 'node:stream';
import type { Descriptor, RawDocument } from '../base/descriptor.ts';
import { type Digest, digestOf, isDigest } from '../base/digest.ts';
import { ErrorCode, isShoalError, ShoalError, throwIfAborted } from '../base/errors.ts';
import { credentialsForHost, secretsOf } from './credentials.ts';
import { announcedMediaType, checkContent, checkResolved, mediaTypeOf } from './document-checks.ts';
import { HostClient, type HostRequest } from './host-client.ts';
import { loadHosts } from './hosts.ts';
import type { RegistryHost } from './hosts-toml.ts';
import { discard, readBody, release } from './http-body.ts';
import { DEFAULT_ORIGIN_LIMITS, HOST_PENALTY_MS, type OriginLimits } from './limits.ts';
import { CONFIG_BYTES_MAX, MANIFEST_ACCEPT, MANIFEST_BYTES_MAX } from './manifest.ts';
import type { ByteRange, Credentials, Origin } from './origin.ts';
import { PlainHosts } from './plain-hosts.ts';
import type { ProxySettings } from './proxy-settings.ts';
import { checkRange, openRange } from './range-response.ts';
import { Redactor } from './redaction.ts';
import type { Reference } from './reference.ts';
import { responseError } from './response-error.ts';
import { withRetries } from './retry.ts';
import { type HttpResponse, Transport } from './transport.ts';

export interface OpenOriginOptions {
  readonly reference: Reference;
  readonly credentials?: Credentials;
  /** containerd's registry `config_path`: directories with `:` between them. Default none. */
  readonly configPath?: string;
  /** `host:port` of Shoal's own mirror, never asked. */
  readonly ownAddresses?: readonly string[];
  /** Default: no proxy. See `proxySettingsFrom`. */
  readonly proxy?: ProxySettings;
  readonly limits?: Partial<OriginLimits>;
  readonly userAgent?: string;
  /**
   * The bytes of a manifest that the node holds already. With it a reference is asked for by HEAD first, which registries
   * that count pulls do not count, and as containerd does; what it gives is checked against the digest.
   */
  readonly heldManifest?: (digest: Digest, signal: AbortSignal) => Promise<Uint8Array | undefined>;
  /** What is known of hosts that may answer without TLS, from one pull to the next. Default: nothing. */
  readonly plainHosts?: PlainHosts;
  /** Told about settings that are passed over. */
  readonly warn?: (message: string) => void;
}

/** Opens one image's registry for one caller. Nothing is read or sent before the first call. Close it after the pull. */
export function openOrigin(options: OpenOriginOptions): Origin {
  return new RegistryOrigin(options);
}

const USER_AGENT = 'shoal/0.1';

class RegistryOrigin implements Origin {
  readonly #options: OpenOriginOptions;
  readonly #limits: OriginLimits;
  readonly #redactor = new Redactor();
  readonly #closing = new AbortController();
  readonly #transports: Transport[] = [];
  readonly #penaltyUntilMs = new Map<HostClient, number>();
  #clients: Promise<HostClient[]> | undefined;
  #hasCredentials: boolean;
  #hasOwnSettings = false;

  constructor(options: OpenOriginOptions) {
    const { credentials, reference } = options;
    this.#options = options;
    this.#limits = { ...DEFAULT_ORIGIN_LIMITS, ...options.limits };
    this.#redactor.add(...secretsOf(credentials));
    this.#hasCredentials = credentialsForHost(credentials, reference.host).kind !== 'anonymous';
  }

  get hasCredentials(): boolean {
    return this.#hasCredentials;
  }

  get isAnonymous(): boolean {
    return !this.#hasCredentials && !this.#hasOwnSettings;
  }

  async resolve(signal: AbortSignal): Promise<RawDocument> {
    const { reference } = this.#options;
    const name = reference.digest ?? reference.tag ?? '';
    const doing = `read manifest "${name}" of "${this.#repository()}"`;
    // A mirror that may not resolve tags still serves what a digest names.
    const fits = (host: RegistryHost) => host.canPull && (reference.digest !== undefined || host.canResolve);
    return this.#ask(fits, doing, signal, async (client, linked) => {
      const request = {
        path: `manifests/${name}`,
        headers: { accept: MANIFEST_ACCEPT },
        doing,
        signal: linked,
      };
      const held = await this.#resolveHeld(client, request);
      if (held !== undefined) return held;
      const response = await this.#getOk(client, request);
      const bytes = await readBody(response, { bytesMax: MANIFEST_BYTES_MAX, doing, signal: linked });
      const digest = checkResolved(response, bytes, reference.digest, doing);
      return {
        descriptor: { mediaType: mediaTypeOf(response, bytes), digest, sizeBytes: bytes.length },
        bytes,
      };
    });
  }

  async document(
    kind: 'manifest' | 'config',
    descriptor: Descriptor,
    signal: AbortSignal,
  ): Promise<RawDocument> {
    const { digest, sizeBytes, mediaType } = descriptor;
    const bytesMax = kind === 'manifest' ? MANIFEST_BYTES_MAX : CONFIG_BYTES_MAX;
    const doing = `read ${kind} "${digest}" of "${this.#repository()}"`;
    if (sizeBytes > bytesMax)
      throw new ShoalError(
        ErrorCode.LimitExceeded,
        `Cannot ${doing}: ${sizeBytes} bytes, at most ${bytesMax} wanted`,
      );
    const path = `${kind === 'manifest' ? 'manifests' : 'blobs'}/${digest}`;
    return this.#ask(canPull, doing, signal, async (client, linked) => {
      const request = { path, headers: { accept: `${mediaType}, */*` }, doing, signal: linked };
      const response = await this.#getOk(client, request);
      const bytes = await readBody(response, { bytesMax, doing, signal: linked });
      checkContent(bytes, descriptor, doing);
      return { descriptor, bytes };
    });
  }

  async readBlob(
    digest: Digest,
    blobSizeBytes: number,
    range: ByteRange,
    signal: AbortSignal,
  ): Promise<Readable> {
    const doing = `read blob "${digest}" of "${this.#repository()}"`;
    checkRange(range, blobSizeBytes, doing);
    const { offsetBytes, lengthBytes } = range;
    const headers = { accept: '*/*', range: `bytes=${offsetBytes}-${offsetBytes + lengthBytes - 1}` };
    return this.#ask(canPull, doing, signal, async (client, linked) => {
      const request = { path: `blobs/${digest}`, headers, doing, signal: linked, blob: digest };
      const response = await this.#getOk(client, request);
      return openRange(response, range, blobSizeBytes, doing, linked);
    });
  }

  async close(): Promise<void> {
    this.#closing.abort(new ShoalError(ErrorCode.Cancelled, 'Cannot go on reading: the pull is over'));
    await this.#clients?.catch(() => {});
    await Promise.all(this.#transports.map((transport) => transport.close()));
  }

  /** Asks by HEAD only; undefined when a GET has to decide, also when the HEAD failed: a GET explains why. */
  async #resolveHeld(client: HostClient, request: HostRequest): Promise<RawDocument | undefined> {
    const { heldManifest, reference } = this.#options;
    if (heldManifest === undefined) return undefined;
    const response = await client.get({ ...request, method: 'HEAD' });
    release(response);
    const digest = response.header('docker-content-digest') ?? '';
    const mediaType = announcedMediaType(response);
    if (response.status !== 200 || !isDigest(digest) || mediaType === undefined) return undefined;
    if (reference.digest !== undefined && reference.digest !== digest) return undefined;
    const bytes = await heldManifest(digest, request.signal);
    if (bytes === undefined || digestOf(bytes) !== digest) return undefined;
    return { descriptor: { mediaType, digest, sizeBytes: bytes.length }, bytes };
  }

  /**
   * Asks the hosts in order until one gives what is wanted, as containerd does: any failure falls through to the next
   * host. If all fail, the most telling failure counts: a refusal before a 404 before a host that cannot be reached.
   */
  async #ask<T>(
    fits: (host: RegistryHost) => boolean,
    doing: string,
    signal: AbortSignal,
    attempt: (client: HostClient, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const linked = AbortSignal.any([signal, this.#closing.signal]);
    throwIfAborted(linked, doing);
    const clients = (await this.#openClients()).filter((client) => fits(client.config));
    if (clients.length === 0)
      throw new ShoalError(
        ErrorCode.NotFound,
        `Cannot ${doing}: no host of the node's registry settings may serve it`,
      );
    const round = () => this.#askEach(this.#inOrder(clients), linked, attempt);
    return withRetries(round, this.#limits, doing, linked);
  }

  async #askEach<T>(
    clients: readonly HostClient[],
    signal: AbortSignal,
    attempt: (client: HostClient, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    let failure: ShoalError | undefined;
    for (const client of clients) {
      try {
        return await attempt(client, signal);
      } catch (error) {
        if (!isShoalError(error) || signal.aborted) throw error;
        if (isUnreachable(error)) this.#penaltyUntilMs.set(client, Date.now() + HOST_PENALTY_MS);
        if (failure === undefined || weightOf(error) > weightOf(failure)) failure = error;
      }
    }
    throw failure;
  }

  /** Hosts in the configured order, but those that just could not be reached last. */
  #inOrder(clients: readonly HostClient[]): HostClient[] {
    const isPenalised = (client: HostClient) => (this.#penaltyUntilMs.get(client) ?? 0) > Date.now();
    return [...clients.filter((client) => !isPenalised(client)), ...clients.filter(isPenalised)];
  }

  async #getOk(client: HostClient, request: HostRequest): Promise<HttpResponse> {
    const response = await client.get(request);
    const isPart = response.status === 206 && request.headers.range !== undefined;
    if (response.status !== 200 && !isPart)
      throw await responseError(response, request.doing, this.#redactor, request.signal);
    const encoding = response.header('content-encoding') ?? 'identity';
    if (encoding === 'identity' || encoding === '') return response;
    discard(response.body);
    throw new ShoalError(
      ErrorCode.RegistryProtocol,
      `Cannot ${request.doing}: ${response.host} encoded its answer, the stored bytes wanted`,
    );
  }

  #openClients(): Promise<HostClient[]> {
    this.#clients ??= this.#makeClients().catch((error: unknown) => {
      this.#clients = undefined;
      throw error;
    });
    return this.#clients;
  }

  async #makeClients(): Promise<HostClient[]> {
    const { reference, configPath = '', ownAddresses = [], warn } = this.#options;
    const hosts = await loadHosts({ host: reference.host, configPath, ownAddresses, ...(warn && { warn }) });
    return Promise.all(hosts.map((host) => this.#makeClient(host)));
  }

  async #makeClient(config: RegistryHost): Promise<HostClient> {
    const { reference, credentials: given, proxy = {}, userAgent = USER_AGENT } = this.#options;
    const { plainHosts = new PlainHosts() } = this.#options;
    const { tls, dialTimeoutMs } = config;
    const limits = this.#limits;
    const transport = await Transport.open({ tls, proxy, limits, ...(dialTimeoutMs && { dialTimeoutMs }) });
    this.#transports.push(transport);
    this.#redactor.add(...Object.values(config.headers));
    const credentials = credentialsForHost(given, config.host);
    if (credentials.kind !== 'anonymous') this.#hasCredentials = true;
    if (Object.keys(config.headers).length > 0 || tls.clientPairs.length > 0) this.#hasOwnSettings = true;
    return new HostClient({
      config,
      transport,
      credentials,
      repository: reference.repository,
      namespace: reference.host,
      userAgent,
      redactor: this.#redactor,
      closing: this.#closing.signal,
      plainHosts,
    });
  }

  #repository(): string {
    return `${this.#options.reference.host}/${this.#options.reference.repository}`;
  }
}

const canPull = (host: RegistryHost) => host.canPull;

function isUnreachable(error: ShoalError): boolean {
  return error.code === ErrorCode.RegistryUnavailable && error.facts.status === undefined;
}

function weightOf(error: ShoalError): number {
  if (isUnreachable(error)) return 0;
  return error.code === ErrorCode.NotFound ? 1 : 2;
}
