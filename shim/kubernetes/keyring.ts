import { matchesGlob } from '../base/glob.ts';
import type { Credentials } from '../registry/origin.ts';
import { memberOf, textOf } from './json.ts';

/** One entry of a pull secret: which registry, and below which path, it is for. */
export interface KeyringEntry {
  /** `host[:port][/path]`; a `*` in a label of the host stands for any run of characters in it. */
  readonly key: string;
  readonly credentials: Credentials;
}

/** Entries of one secret that are read. */
const ENTRIES_MAX = 256;
/** Under which kubelet keeps what is for Docker Hub. */
const DOCKER_HUB_KEY = 'index.docker.io';
const DOCKER_HUB_HOST = 'docker.io';

/** Reads the entries of a Secret of either docker type; none for what is malformed, as kubelet has it. */
export function readPullSecret(secret: unknown): KeyringEntry[] {
  const data = memberOf(secret, 'data');
  const entries =
    textOf(secret, 'type') === 'kubernetes.io/dockercfg'
      ? decodeJson(textOf(data, '.dockercfg'))
      : memberOf(decodeJson(textOf(data, '.dockerconfigjson')), 'auths');
  if (typeof entries !== 'object' || entries === null) return [];
  return Object.entries(entries)
    .slice(0, ENTRIES_MAX)
    .flatMap(([address, entry]) => {
      const credentials = credentialsOf(entry);
      const key = keyOf(address);
      return credentials === undefined || key === undefined ? [] : [{ key, credentials }];
    });
}

/**
 * The credentials for an image that kubelet would try first: of the keys that match, the last in the order of their bytes, so that a
 * longer path comes before a shorter one; of the same key, the one of the first secret.
 * @param hosts The registry host under each of its names, that of its P2P address included.
 */
export function findInKeyring(
  entries: readonly KeyringEntry[],
  hosts: readonly string[],
  repository: string,
): Credentials | undefined {
  const matching = entries.filter(({ key }) => hosts.some((host) => matchesKey(key, host, repository)));
  const first = matching.reduce<KeyringEntry | undefined>(
    (best, entry) => (best === undefined || entry.key > best.key ? entry : best),
    undefined,
  );
  return first?.credentials;
}

/** kubelet's match: the same number of labels, each matched by itself, the same port, and the path as a prefix. */
function matchesKey(key: string, host: string, repository: string): boolean {
  const { name, port, path } = splitKey(key);
  if (host === DOCKER_HUB_HOST && key === DOCKER_HUB_KEY) return true;
  const target = splitKey(host);
  const labels = name.split('.');
  const targetLabels = target.name.split('.');
  if (labels.length !== targetLabels.length || port !== target.port) return false;
  if (!`/${repository}`.startsWith(path)) return false;
  return labels.every((label, index) => matchesGlob(label, targetLabels[index] ?? ''));
}

function splitKey(key: string) {
  const [, name = '', port = '', path = ''] = /^([^/:]*|\[[^\]]*\])(?::(\d+))?(\/.*)?$/.exec(key) ?? [];
  return { name, port, path };
}

/** Without scheme, and without the version path that docker login writes. */
function keyOf(address: string): string | undefined {
  const match = /^(?:https?:\/\/)?([^/?#@\s]+)(\/[^?#\s]*)?$/.exec(address);
  const path = (match?.[2] ?? '').replace(/^\/v[12]\//, '/').replace(/^\/v[12]?$|^\/$/, '');
  return match?.[1] === undefined ? undefined : `${match[1]}${path}`;
}

function credentialsOf(entry: unknown): Credentials | undefined {
  const auth = textOf(entry, 'auth');
  if (auth !== undefined) return { auth };
  const username = textOf(entry, 'username');
  return username === undefined ? undefined : { username, password: textOf(entry, 'password') ?? '' };
}

function decodeJson(base64: string | undefined): unknown {
  try {
    return base64 === undefined ? undefined : JSON.parse(Buffer.from(base64, 'base64').toString());
  } catch {
    return undefined;
  }
}
