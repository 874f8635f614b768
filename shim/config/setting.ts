import { isIP } from 'node:net';
import { isAbsolute } from 'node:path';
import { P2P_HOST_RULE_ACCEPTS, parseP2pHostRule } from '../base/p2p-address.ts';

/** One setting: everything that the loader, the default file and the README's table say about it. */
export interface Setting<T> {
  readonly default: T;
  /** What is accepted, as it stands in error messages and comments: `an integer from 1 to 65535`. */
  readonly accepts: string;
  readonly unit: string | undefined;
  readonly help: string;
  /** The value if it is accepted, else undefined. */
  readonly read: (value: unknown) => T | undefined;
  /** What an environment variable's text means, before `read`. */
  readonly parse: (text: string) => unknown;
}

export interface Section {
  readonly [key: string]: Section | Setting<unknown>;
}

/** The values that a tree of settings describes. */
export type ValuesOf<T> = {
  readonly [K in keyof T]: T[K] extends Setting<infer V> ? V : ValuesOf<T[K]>;
};

/** A form that a text must have. */
export interface Format {
  readonly accepts: string;
  readonly test: (text: string) => boolean;
}

/** Nothing that names a file, host or label is longer; keeps error messages and comparisons short. */
const textLengthMax = 4096;
const listLengthMax = 1024;

export function isSetting(node: Section | Setting<unknown>): node is Setting<unknown> {
  return typeof node.read === 'function';
}

export function integer(of: {
  readonly default: number;
  readonly min: number;
  readonly max: number;
  readonly unit?: string;
  readonly help: string;
}): Setting<number> {
  return {
    default: of.default,
    accepts: `an integer from ${of.min} to ${of.max}`,
    unit: of.unit,
    help: of.help,
    read: (value) =>
      typeof value === 'number' && Number.isSafeInteger(value) && value >= of.min && value <= of.max
        ? value
        : undefined,
    parse: (text) => (/^-?\d+$/.test(text) ? Number(text) : text),
  };
}

export function flag(of: { readonly default: boolean; readonly help: string }): Setting<boolean> {
  return {
    default: of.default,
    accepts: 'true or false',
    unit: undefined,
    help: of.help,
    read: (value) => (typeof value === 'boolean' ? value : undefined),
    parse: (text) => (text === 'true' ? true : text === 'false' ? false : text),
  };
}

export function choice<const T extends string>(of: {
  readonly default: NoInfer<T>;
  readonly among: readonly T[];
  readonly help: string;
}): Setting<T> {
  return {
    default: of.default,
    accepts: `one of ${of.among.join(', ')}`,
    unit: undefined,
    help: of.help,
    read: (value) => of.among.find((known) => known === value),
    parse: (text) => text,
  };
}

export function text(of: {
  readonly default: string;
  readonly format: Format;
  readonly help: string;
}): Setting<string> {
  return {
    default: of.default,
    accepts: of.format.accepts,
    unit: undefined,
    help: of.help,
    read: (value) => (isText(value, of.format) ? value : undefined),
    parse: (given) => given,
  };
}

/** A list of texts; comma-separated in an environment variable. Empty unless a default is given. */
export function list(of: {
  readonly each: Format;
  readonly default?: readonly string[];
  readonly help: string;
}): Setting<readonly string[]> {
  return {
    default: of.default ?? [],
    accepts: `a list, each ${of.each.accepts}`,
    unit: undefined,
    help: of.help,
    read: (value) => {
      if (!Array.isArray(value) || value.length > listLengthMax) return undefined;
      return value.every((each): each is string => isText(each, of.each))
        ? Object.freeze([...value])
        : undefined;
    },
    parse: (given) => given.split(',').flatMap((each) => (each.trim() === '' ? [] : [each.trim()])),
  };
}

function isText(value: unknown, format: Format): value is string {
  return typeof value === 'string' && value.length <= textLengthMax && format.test(value);
}

export const anyText: Format = { accepts: 'a text', test: () => true };

export const absolutePath: Format = { accepts: 'an absolute path', test: (path) => isAbsolute(path) };

/** The kernel's limit for a socket's path is 107 bytes (`man 7 unix`). */
export const socketPath: Format = {
  accepts: 'an absolute path of at most 107 bytes',
  test: (path) => isAbsolute(path) && Buffer.byteLength(path) <= 107,
};

export const ipAddress: Format = { accepts: 'an IP address', test: (address) => isIP(address) !== 0 };

/** `HOST:PORT`; an IPv6 host stands in brackets. */
export const hostPort: Format = { accepts: 'HOST:PORT', test: isHostPort };

export const ipPort: Format = {
  accepts: 'IP:PORT',
  test: (address) => isHostPort(address) && isIP(splitHostPort(address).host) !== 0,
};

/** A TCP address, or a unix socket: what starts with `/`. */
export const ipPortOrSocket: Format = {
  accepts: `${ipPort.accepts} or ${socketPath.accepts}`,
  test: (address) => ipPort.test(address) || socketPath.test(address),
};

/** Host names as registries have them, with an optional port and `*.` in front for all below. */
export const registryPattern: Format = {
  accepts: 'a registry host such as "docker.io", "registry.example:5000" or "*.example"',
  test: (pattern) => /^(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?$/.test(pattern),
};

export const namespaceName: Format = {
  accepts: 'a Kubernetes namespace',
  test: (name) => /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(name),
};

export const serviceName: Format = {
  accepts: 'NAMESPACE/SERVICE',
  test: (name) => /^[a-z0-9][a-z0-9-]{0,62}\/[a-z0-9][a-z0-9-]{0,62}$/.test(name),
};

export const labelPrefix: Format = {
  accepts: 'a DNS subdomain, the prefix of a label key',
  test: (prefix) => prefix.length <= 253 && /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/.test(prefix),
};

export const p2pHostRule: Format = { accepts: P2P_HOST_RULE_ACCEPTS, test: isP2pHostRule };

export const dnsName: Format = {
  accepts: 'a DNS name, with an optional :PORT',
  test: (name) => /^[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9.])?(?::\d{1,5})?$/.test(name),
};

/** The same, or empty. */
export function orEmpty(format: Format): Format {
  return { accepts: `${format.accepts}, or empty`, test: (given) => given === '' || format.test(given) };
}

export function splitHostPort(address: string): { readonly host: string; readonly port: number } {
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, Math.max(colon, 0));
  const port = address.slice(colon + 1);
  return { host: host.replace(/^\[(.*)\]$/, '$1'), port: /^\d{1,5}$/.test(port) ? Number(port) : Number.NaN };
}

function isP2pHostRule(rule: string): boolean {
  try {
    parseP2pHostRule(rule);
    return true;
  } catch {
    return false;
  }
}

function isHostPort(address: string): boolean {
  const { host, port } = splitHostPort(address);
  const bracketed = address.startsWith('[');
  const hostIsFine = bracketed ? isIP(host) === 6 : /^[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(host);
  return hostIsFine && port >= 0 && port <= 65535;
}
