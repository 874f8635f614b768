import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';
import {
  type ClientPair,
  defaultHost,
  HOSTS_TOML_BYTES_MAX,
  hostDirectories,
  parseHostsToml,
  type RegistryHost,
  type TlsSettings,
} from './hosts-toml.ts';
import { hostName, hostPort, isLoopbackHost } from './loopback.ts';

export interface HostsOptions {
  /** Host of the image reference. */
  readonly host: string;
  /** containerd's `config_path`: directories with `:` between them; empty for none. */
  readonly configPath: string;
  /** `host:port` of Shoal's own mirror, which would ask itself. */
  readonly ownAddresses: readonly string[];
  /** Told when a hosts.toml cannot be read and is passed over. */
  readonly warn?: (message: string) => void;
}

/**
 * The hosts to ask for content of a registry, in order. Reads the files each time, so changes need no restart.
 * @throws ConfigInvalid when a directory exists and cannot be read.
 */
export async function loadHosts(options: HostsOptions): Promise<RegistryHost[]> {
  const directory = await findDirectory(options);
  const hosts =
    directory === undefined ? [defaultHost(options.host)] : await loadDirectory(directory, options);
  const others = hosts.filter((host) => !isOwnAddress(host, options.ownAddresses));
  // A node that forbids the upstream by naming Shoal as the server means that Shoal is to go upstream.
  return others.length > 0 && others.at(-1) === hosts.at(-1)
    ? others
    : [...others, defaultHost(options.host)];
}

async function findDirectory(options: HostsOptions): Promise<string | undefined> {
  for (const directory of hostDirectories(options.configPath, options.host)) {
    const exists = await stat(directory).then(
      () => true,
      (error) => absent(error, directory),
    );
    if (exists) return directory;
  }
  return undefined;
}

async function loadDirectory(directory: string, options: HostsOptions): Promise<RegistryHost[]> {
  const path = join(directory, 'hosts.toml');
  try {
    const text = await readText(path);
    if (text !== '') return parseHostsToml(text, directory, options.host);
  } catch (error) {
    if (!(error instanceof ShoalError)) throw unreadable(path, error);
    options.warn?.(`${error.message} (${path}); only certificates of the directory are used`);
  }
  return [defaultHost(options.host, await loadCertificates(directory))];
}

/** Docker's layout: `*.crt` are authorities, `*.cert` with `*.key` of the same name are client certificates. */
async function loadCertificates(directory: string): Promise<TlsSettings> {
  const names = await readdir(directory).catch((error: unknown) => {
    throw unreadable(directory, error);
  });
  const sorted = names.sort();
  const clientPairs: ClientPair[] = sorted
    .filter((name) => name.endsWith('.cert'))
    .map((name) => {
      const key = name.replace(/\.cert$/, '.key');
      return { certPath: join(directory, name), keyPath: join(directory, names.includes(key) ? key : name) };
    });
  const caPaths = sorted.filter((name) => name.endsWith('.crt')).map((name) => join(directory, name));
  return { caPaths, clientPairs };
}

async function readText(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (nodeErrorCode(error) === 'ENOENT') return '';
    throw error;
  });
  if (text.length <= HOSTS_TOML_BYTES_MAX) return text;
  throw new ShoalError(
    ErrorCode.ConfigInvalid,
    `Cannot read "${path}": larger than ${HOSTS_TOML_BYTES_MAX} bytes`,
  );
}

function isOwnAddress(host: RegistryHost, ownAddresses: readonly string[]): boolean {
  const port = hostPort(host.host) ?? (host.scheme === 'http' ? '80' : '443');
  return ownAddresses.some((own) => {
    if (hostPort(own) !== port) return false;
    return hostName(own) === hostName(host.host) || (isLoopbackHost(own) && isLoopbackHost(host.host));
  });
}

function absent(error: unknown, path: string): false {
  const code = nodeErrorCode(error);
  if (code === 'ENOENT') return false;
  throw unreadable(path, error);
}

function unreadable(path: string, error: unknown): ShoalError {
  const code = nodeErrorCode(error) ?? 'unknown error';
  return new ShoalError(
    ErrorCode.ConfigInvalid,
    `Cannot read "${path}": ${code}, a readable directory of registry settings wanted`,
  );
}
