import { ErrorCode, ShoalError } from './errors.ts';
import { matchesGlob } from './glob.ts';

/**
 * A P2P address is the name of a registry with a label after its first one, and a port:
 * `team.cn-hangzhou.cr.aliyuncs.com` ↔ `team.distributed.cn-hangzhou.cr.aliyuncs.com:65001`. It resolves nowhere: whoever meets
 * one maps it back before any use of the network.
 *
 * Only hosts that a rule names have a P2P form; under any other domain the longer name could be a stranger's. The two
 * functions are each other's inverse: a host without a P2P form maps to undefined, and so does a P2P address that is the
 * form of no host.
 */
export interface P2pHostRule {
  /** Glob over host names without port: `*.cr.aliyuncs.com`. `*` is any run of characters, dots included. */
  readonly hosts: string;
  /** Stands after the first label of the name: `distributed`. */
  readonly label: string;
  readonly port: number;
}

const DEFAULT_LABEL = 'distributed';
const DEFAULT_PORT = 65_001;

export const DEFAULT_P2P_HOST_RULES: readonly P2pHostRule[] = [
  { hosts: '*.cr.aliyuncs.com', label: DEFAULT_LABEL, port: DEFAULT_PORT },
];

/** DNS (RFC 1035 section 2.3.4); also bounds every match. */
const HOST_NAME_LENGTH_MAX = 253;
const HOST_LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i;
const IP_ADDRESS_LABEL = /^[0-9]+$/;

/**
 * The P2P form of an origin host, with its port. Undefined where the first rule that fits has none to give: for a host with a port
 * of its own (the P2P port takes its place), an IP address, a single label, and a name that has the rule's label already.
 */
export function p2pHostOf(host: string, rules: readonly P2pHostRule[]): string | undefined {
  const name = splitName(host);
  const rule = name && rules.find((each) => matchesGlob(each.hosts.toLowerCase(), host.toLowerCase()));
  if (rule === undefined || name === undefined) return undefined;
  if (name.rest.split('.', 1)[0] === rule.label) return undefined;
  return `${name.first}.${rule.label}.${name.rest}:${rule.port}`;
}

/** The origin host that a P2P `host:port` stands for; undefined where it is no P2P address under these rules. */
export function originHostOf(host: string, rules: readonly P2pHostRule[]): string | undefined {
  for (const { label, port } of rules) {
    const ending = `:${port}`;
    if (!host.endsWith(ending)) continue;
    const [first, inserted, ...rest] = host.slice(0, -ending.length).split('.');
    if (inserted !== label) continue;
    const origin = [first, ...rest].join('.');
    if (p2pHostOf(origin, rules) === host) return origin;
  }
  return undefined;
}

/** An image as its origin knows it, `name:tag` and digest untouched; undefined where it has no P2P address. */
export function originImageOf(image: string, rules: readonly P2pHostRule[]): string | undefined {
  const slash = image.indexOf('/');
  if (slash < 0) return undefined;
  const origin = originHostOf(image.slice(0, slash), rules);
  return origin && `${origin}${image.slice(slash)}`;
}

/** An image under its P2P address; undefined where its host has none. The host must be spelled out (`docker.io/…`). */
export function p2pImageOf(image: string, rules: readonly P2pHostRule[]): string | undefined {
  const slash = image.indexOf('/');
  if (slash < 0) return undefined;
  const p2p = p2pHostOf(image.slice(0, slash), rules);
  return p2p && `${p2p}${image.slice(slash)}`;
}

/** What a rule looks like in settings. */
export const P2P_HOST_RULE_ACCEPTS =
  'HOSTS or HOSTS=LABEL:PORT, such as "*.cr.aliyuncs.com=distributed:65001"';

/**
 * Reads `HOSTS` or `HOSTS=LABEL:PORT`. The pattern has to end in at least one label that is spelled out (`*.example`).
 * @throws ShoalError ConfigInvalid
 */
export function parseP2pHostRule(text: string): P2pHostRule {
  const [hosts = '', form] = text.split('=', 2);
  const [label = '', port = ''] = (form ?? `${DEFAULT_LABEL}:${DEFAULT_PORT}`).split(':', 2);
  const rule = { hosts: hosts.toLowerCase(), label: label.toLowerCase(), port: Number(port) };
  const labels = rule.hosts.split('.');
  const hasDomain = labels.length > 1 && HOST_LABEL.test(labels.at(-1) ?? '') && !isIpAddress(labels);
  const isPattern = labels.every((each) => HOST_LABEL.test(each.replaceAll('*', 'x')));
  const isPort = /^[1-9][0-9]{0,4}$/.test(port) && rule.port <= 65_535;
  if (hasDomain && isPattern && isPort && HOST_LABEL.test(label) && text.split('=').length <= 2) return rule;
  throw new ShoalError(
    ErrorCode.ConfigInvalid,
    `Cannot read P2P address rule "${text.slice(0, HOST_NAME_LENGTH_MAX)}": wanted ${P2P_HOST_RULE_ACCEPTS}`,
  );
}

function splitName(host: string): { readonly first: string; readonly rest: string } | undefined {
  const labels = host.split('.');
  const [first, ...rest] = labels;
  const isName = host.length <= HOST_NAME_LENGTH_MAX && labels.every((label) => HOST_LABEL.test(label));
  if (first === undefined || rest.length === 0 || !isName || isIpAddress(labels)) return undefined;
  return { first, rest: rest.join('.') };
}

function isIpAddress(labels: readonly string[]): boolean {
  return IP_ADDRESS_LABEL.test(labels.at(-1) ?? '');
}
