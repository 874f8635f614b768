import { parse, YAMLParseError } from 'yaml';
import { ErrorCode, ShoalError } from '../shim/base/errors.ts';

/** What the operator may set for the plugin in the runtime's own folder, `/etc/nri/conf.d/NN-shoal.conf`. */
export interface PluginConfig {
  /** The agent's control socket, an absolute path. */
  readonly agentSocket?: string;
  /** Prefix of the keys that pods carry, a DNS name such as `k8s.aliyun.com`. */
  readonly keyPrefix?: string;
}

/** Two lines are needed, bytes. */
export const CONFIG_BYTES_MAX = 16 * 1024;

const KEYS = ['agentSocket', 'keyPrefix'] as const;
/** A DNS subdomain, as Kubernetes wants the prefix of a label: RFC 1123, 253 characters. */
const DNS_NAME = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
/** Of `sun_path`, bytes; longer ones cannot be connected to. */
const SOCKET_PATH_BYTES_MAX = 107;

/** YAML (so JSON, too) or nothing. @throws ShoalError `ConfigInvalid` that tells what is wrong, where, and what is wanted. */
export function parsePluginConfig(text: string): PluginConfig {
  if (Buffer.byteLength(text) > CONFIG_BYTES_MAX)
    throw invalid('the plugin configuration', `over ${CONFIG_BYTES_MAX} bytes`, 'a few lines of YAML');
  if (text.trim() === '') return {};
  const parsed = parseYaml(text);
  if (parsed === null) return {};
  if (typeof parsed !== 'object' || Array.isArray(parsed))
    throw invalid('the plugin configuration', kindOf(parsed), 'a mapping');
  for (const key of Object.keys(parsed))
    if (!(KEYS as readonly string[]).includes(key)) throw invalid(key, 'an unknown key', KEYS.join(' or '));
  const { agentSocket, keyPrefix } = parsed as Record<string, unknown>;
  return {
    ...(agentSocket !== undefined && { agentSocket: checkSocketPath('agentSocket', agentSocket) }),
    ...(keyPrefix !== undefined && { keyPrefix: checkKeyPrefix('keyPrefix', keyPrefix) }),
  };
}

/** The path of a socket, with or without `unix://`. @throws ShoalError `ConfigInvalid` */
export function checkSocketPath(where: string, value: unknown): string {
  const path = typeof value === 'string' ? value.replace(/^unix:\/\//, '') : '';
  if (path.startsWith('/') && Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return path;
  throw invalid(where, kindOf(value), `an absolute path of a socket, up to ${SOCKET_PATH_BYTES_MAX} bytes`);
}

/** @throws ShoalError `ConfigInvalid` */
export function checkKeyPrefix(where: string, value: unknown): string {
  if (typeof value === 'string' && DNS_NAME.test(value)) return value;
  throw invalid(where, kindOf(value), 'a DNS name in lower case, such as k8s.aliyun.com');
}

function parseYaml(text: string): unknown {
  try {
    return parse(text, { maxAliasCount: 0 });
  } catch (error) {
    const line = error instanceof YAMLParseError ? error.linePos?.[0].line : undefined;
    const place = line === undefined ? '' : `, line ${line}`;
    throw invalid(`the plugin configuration${place}`, 'no YAML', 'YAML');
  }
}

function kindOf(value: unknown): string {
  if (typeof value === 'string') return `"${value.slice(0, 200)}"`;
  return Array.isArray(value) ? 'a list' : String(value).slice(0, 200);
}

function invalid(where: string, found: string, wanted: string): ShoalError {
  return new ShoalError(ErrorCode.ConfigInvalid, `Cannot use "${where}": found ${found}, wanted ${wanted}`);
}
