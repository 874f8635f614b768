import { isAbsolute, join } from 'node:path';
import { parse } from 'smol-toml';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import { hostPort, isLoopbackHost } from './loopback.ts';

/** One place where a registry's content can be asked for: a mirror, or the registry itself. */
export interface RegistryHost {
  readonly scheme: 'http' | 'https';
  /** Try TLS first and fall back to plain HTTP when the other side speaks that. */
  readonly httpFallback: boolean;
  /** Host with port, if one is given. */
  readonly host: string;
  /** What stands before `/<repository>/…`; `/v2` in general. */
  readonly path: string;
  readonly canPull: boolean;
  readonly canResolve: boolean;
  readonly tls: TlsSettings;
  /** Sent with every request to this host, never to where it redirects. */
  readonly headers: Readonly<Record<string, string>>;
  readonly dialTimeoutMs?: number;
}

export interface TlsSettings {
  readonly caPaths: readonly string[];
  readonly clientPairs: readonly ClientPair[];
  readonly skipVerify?: boolean;
}

export interface ClientPair {
  readonly certPath: string;
  /** The same file holds both when there is only one. */
  readonly keyPath: string;
}

/** Largest hosts.toml read, bytes. */
export const HOSTS_TOML_BYTES_MAX = 1024 * 1024;
/** Most hosts tried for one registry. */
export const HOSTS_MAX = 32;

/** The network host of Docker Hub. */
const DOCKER_HUB_REGISTRY = 'registry-1.docker.io';
export const NO_TLS_SETTINGS: TlsSettings = { caPaths: [], clientPairs: [] };

type Table = Readonly<Record<string, unknown>>;

/** Directories that may configure `host`, in the order in which containerd looks: the first that exists counts. */
export function hostDirectories(configPath: string, host: string): string[] {
  const roots = configPath.split(':').filter((root) => root !== '');
  const colon = host.lastIndexOf(':');
  const escaped = colon > 0 ? [`${host.slice(0, colon)}_${host.slice(colon + 1)}_`] : [];
  return roots.flatMap((root) => [...escaped, host, '_default'].map((name) => join(root, name)));
}

/**
 * Reads a hosts.toml for registry `host`: its `[host."URL"]` tables in file order, then the server.
 * `directory` is where relative certificate paths start. @throws ConfigInvalid; containerd then treats the directory as one of certificates.
 */
export function parseHostsToml(text: string, directory: string, host: string): RegistryHost[] {
  const root = parseTable(text);
  const mirrors = Object.entries(table(root.host ?? {}, 'host'));
  if (mirrors.length >= HOSTS_MAX)
    throw invalid('hosts', `${mirrors.length} found, fewer than ${HOSTS_MAX} wanted`);
  const hosts = mirrors.map(([url, settings]) =>
    readHost(url, table(settings, `host."${shownUrl(url)}"`), directory),
  );
  // Read also where only the server's would count, so that a mistake is found before there is one.
  readCapabilities(root);
  const server = root.server;
  if (server !== undefined && server !== '')
    return [...hosts, readHost(string(server, 'server'), root, directory)];
  return [...hosts, defaultHost(host, readTls(root, directory), readHeaders(root), readDialTimeout(root))];
}

/** The registry itself when nothing configures it otherwise: TLS, and for loopback with a port plain HTTP as well. */
export function defaultHost(
  host: string,
  tls: TlsSettings = NO_TLS_SETTINGS,
  headers: Readonly<Record<string, string>> = {},
  dialTimeoutMs?: number,
): RegistryHost {
  const port = hostPort(host);
  const isPlain = isLoopbackHost(host) && port !== undefined && port !== '443';
  const skipsVerify = isLoopbackHost(host) && port !== '80';
  const network = host === 'docker.io' ? DOCKER_HUB_REGISTRY : host;
  const base = { host: network, path: '/v2', canPull: true, canResolve: true, headers };
  return withFallback({
    ...base,
    scheme: isPlain ? 'http' : 'https',
    httpFallback: false,
    tls: skipsVerify ? { ...tls, skipVerify: true } : tls,
    ...(dialTimeoutMs !== undefined && { dialTimeoutMs }),
  });
}

/** A plain-HTTP host with TLS settings is tried by TLS first, unless port 80 leaves no doubt. */
function withFallback(host: RegistryHost): RegistryHost {
  const { caPaths, clientPairs, skipVerify } = host.tls;
  const hasTls = caPaths.length > 0 || clientPairs.length > 0 || skipVerify !== undefined;
  if (host.scheme !== 'http' || !hasTls || hostPort(host.host) === '80') return host;
  return { ...host, scheme: 'https', httpFallback: true };
}

function readHost(address: string, settings: Table, directory: string): RegistryHost {
  const { scheme, host, path } = readAddress(address, settings.override_path === true);
  const { canPull, canResolve } = readCapabilities(settings);
  const dialTimeoutMs = readDialTimeout(settings);
  return withFallback({
    scheme,
    httpFallback: false,
    host,
    path,
    canPull,
    canResolve,
    tls: readTls(settings, directory),
    headers: readHeaders(settings),
    ...(dialTimeoutMs !== undefined && { dialTimeoutMs }),
  });
}

function readAddress(
  address: string,
  overridesPath: boolean,
): Pick<RegistryHost, 'scheme' | 'host' | 'path'> {
  const text = address.startsWith('http') ? address : `https://${address}`;
  const match = /^(https?):\/\/(?:[^/@]*@)?([^/?#\s]+)([^?#\s]*)/i.exec(text);
  const [, scheme = '', host, pathText = ''] = match ?? [];
  if (host === undefined) throw invalid(`host "${shownUrl(address)}"`, 'not an http or https URL');
  const path = join('/', pathText).replace(/\/$/, '');
  const isComplete = overridesPath || path.endsWith('/v2');
  return {
    scheme: scheme.toLowerCase() === 'http' ? 'http' : 'https',
    host: host.toLowerCase(),
    path: isComplete ? path : `${path}/v2`,
  };
}

function readCapabilities(settings: Table): { canPull: boolean; canResolve: boolean } {
  const names = strings(settings.capabilities ?? [], 'capabilities').map((name) => name.toLowerCase());
  const unknown = names.find((name) => !['pull', 'resolve', 'push', 'referrers'].includes(name));
  if (unknown !== undefined)
    throw invalid('capabilities', `"${unknown}" found, pull, resolve, push or referrers wanted`);
  if (names.length === 0) return { canPull: true, canResolve: true };
  return { canPull: names.includes('pull'), canResolve: names.includes('resolve') };
}

function readTls(settings: Table, directory: string): TlsSettings {
  const absolute = (path: string) => (isAbsolute(path) ? path : join(directory, path));
  const caPaths = stringOrStrings(settings.ca, 'ca').map(absolute);
  const { client, skip_verify: skipVerify } = settings;
  const entries = typeof client === 'string' ? [client] : array(client ?? [], 'client');
  const clientPairs = entries.map((entry) => readClientPair(entry, absolute));
  if (skipVerify !== undefined && typeof skipVerify !== 'boolean')
    throw invalid('skip_verify', 'true or false wanted');
  return { caPaths, clientPairs, ...(skipVerify !== undefined && { skipVerify }) };
}

function readClientPair(entry: unknown, absolute: (path: string) => string): ClientPair {
  const paths = stringOrStrings(entry, 'client').map(absolute);
  const [certPath, keyPath] = paths;
  const isPair = Array.isArray(entry) ? paths.length === 2 : true;
  if (certPath === undefined || !isPair) throw invalid('client', 'a file or pairs of two files wanted');
  return { certPath, keyPath: keyPath ?? certPath };
}

function readHeaders(settings: Table): Readonly<Record<string, string>> {
  const entries = Object.entries(table(settings.header ?? {}, 'header'));
  return Object.fromEntries(
    entries.map(([name, value]) => [name.toLowerCase(), stringOrStrings(value, `header ${name}`).join(', ')]),
  );
}

/** Go's duration notation: `300ms`, `10s`, `1m30s`. */
function readDialTimeout(settings: Table): number | undefined {
  const text = settings.dial_timeout;
  if (text === undefined || text === '') return undefined;
  const unitsMs: Readonly<Record<string, number>> = {
    ns: 1e-6,
    us: 1e-3,
    µs: 1e-3,
    ms: 1,
    s: 1e3,
    m: 60e3,
    h: 3600e3,
  };
  const parts = [...string(text, 'dial_timeout').matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)];
  const isWhole = parts.map((part) => part[0]).join('') === text;
  const sumMs = parts.reduce((sum, [, count, unit = '']) => sum + Number(count) * (unitsMs[unit] ?? 0), 0);
  if (!isWhole || parts.length === 0) throw invalid('dial_timeout', 'a duration such as "10s" wanted');
  return Math.max(1, Math.round(sumMs));
}

function parseTable(text: string): Table {
  try {
    return parse(text);
  } catch {
    // The parser's message quotes the file, and headers in it may be secrets.
    throw invalid('hosts.toml', 'not TOML');
  }
}

function table(value: unknown, what: string): Table {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Table;
  throw invalid(what, 'a table wanted');
}

function array(value: unknown, what: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw invalid(what, 'an array wanted');
}

function string(value: unknown, what: string): string {
  if (typeof value === 'string') return value;
  throw invalid(what, 'a string wanted');
}

function strings(value: unknown, what: string): string[] {
  return array(value, what).map((each) => string(each, what));
}

function stringOrStrings(value: unknown, what: string): string[] {
  if (value === undefined) return [];
  return typeof value === 'string' ? [value] : strings(value, what);
}

function shownUrl(url: string): string {
  return url.replace(/\/\/[^/@]*@/, '//').replace(/[?#].*$/, '');
}

function invalid(what: string, found: string): ShoalError {
  return new ShoalError(ErrorCode.ConfigInvalid, `Cannot read ${what} of a registry's hosts.toml: ${found}`);
}
