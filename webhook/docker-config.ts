import { originHostOf, type P2pHostRule, p2pHostOf } from '../shim/base/p2p-address.ts';
import { asObject } from './pod.ts';

/** The two types of secrets that kubelet takes as pull secrets, with the key of their content. */
export const REGISTRY_SECRET_KEYS: Readonly<Record<string, string>> = {
  'kubernetes.io/dockerconfigjson': '.dockerconfigjson',
  'kubernetes.io/dockercfg': '.dockercfg',
};

type Entries = Readonly<Record<string, unknown>>;

/**
 * The content of a pull secret with each registry host in its peer-to-peer form, everything else of an entry as it was.
 * Entries whose host has no such form are left out: the original serves them, and a copy that did so as well would be
 * asked for images that have nothing to do with it. Undefined where the content is not that of its type.
 */
export function toP2pDockerConfig(
  type: string,
  content: string,
  rules: readonly P2pHostRule[],
): string | undefined {
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch {
    return undefined;
  }
  const whole = asObject(value);
  if (whole === undefined) return undefined;
  if (type === 'kubernetes.io/dockercfg') return JSON.stringify(toP2pEntries(whole, rules));
  const auths = asObject(whole.auths ?? {});
  return auths === undefined ? undefined : JSON.stringify({ auths: toP2pEntries(auths, rules) });
}

/** An entry that is in the secret under its peer-to-peer host already wins over one that is mapped there. */
function toP2pEntries(entries: Entries, rules: readonly P2pHostRule[]): Entries {
  const usable = Object.entries(entries).filter(([, entry]) => asObject(entry) !== undefined);
  const given = usable.filter(([key]) => originHostOf(splitKey(key).host, rules) !== undefined);
  const mapped = usable.flatMap(([key, entry]) => {
    const p2pKey = toP2pKey(key, rules);
    return p2pKey === undefined ? [] : [[p2pKey, entry] as const];
  });
  return Object.fromEntries([...mapped, ...given]);
}

/** A host that no registry has, in the place of a `*`, which kubelet takes in a host and rules do not know. */
const WILDCARD = 'shoal-any-label';

function toP2pKey(key: string, rules: readonly P2pHostRule[]): string | undefined {
  const { before, host, after } = splitKey(key);
  const p2pHost = p2pHostOf(host.replaceAll('*', WILDCARD), rules);
  return p2pHost === undefined ? undefined : `${before}${p2pHost.replaceAll(WILDCARD, '*')}${after}`;
}

/** `https://host:443/v2/` is `https://`, `host:443` and `/v2/`; all but the host may be missing. */
function splitKey(key: string): { readonly before: string; readonly host: string; readonly after: string } {
  const start = key.indexOf('://') < 0 ? 0 : key.indexOf('://') + 3;
  const slash = key.indexOf('/', start);
  const end = slash < 0 ? key.length : slash;
  return { before: key.slice(0, start), host: key.slice(start, end), after: key.slice(end) };
}
