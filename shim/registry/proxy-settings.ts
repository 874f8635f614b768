import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { hostName, isLoopbackHost } from './loopback.ts';

/** The proxy variables of the node. */
export interface ProxySettings {
  readonly httpProxy?: string;
  readonly httpsProxy?: string;
  readonly noProxy?: string;
}

/** Reads `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or their lower-case names, which come second, as in Go. */
export function proxySettingsFrom(environment: Readonly<Record<string, string | undefined>>): ProxySettings {
  const read = (name: string) => environment[name] || environment[name.toLowerCase()];
  const [httpProxy, httpsProxy, noProxy] = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'].map(read);
  return { ...(httpProxy && { httpProxy }), ...(httpsProxy && { httpsProxy }), ...(noProxy && { noProxy }) };
}

/** The proxy that a request to `url` goes through, decided as Go's HTTP client (and so containerd) does. */
export function proxyFor(url: URL, settings: ProxySettings): string | undefined {
  const proxy = url.protocol === 'https:' ? settings.httpsProxy : settings.httpProxy;
  if (!proxy || isLoopbackHost(url.host) || isExempt(url, settings.noProxy ?? '')) return undefined;
  return proxy.includes('://') ? proxy : `http://${proxy}`;
}

function isExempt(url: URL, noProxy: string): boolean {
  const name = hostName(url.host).toLowerCase().replace(/\.$/, '');
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return noProxy
    .split(',')
    .map((entry) => entry.trim().toLowerCase())
    .some((entry) => entry !== '' && matchesEntry(entry, name, port));
}

function matchesEntry(entry: string, name: string, port: string): boolean {
  if (entry === '*') return true;
  if (entry.includes('/')) return isInNetwork(name, entry);
  const entryName = hostName(entry);
  const entryPort = isIP(entry) === 0 ? /:(\d+)$/.exec(entry)?.[1] : undefined;
  if (entryPort !== undefined && entryPort !== port) return false;
  if (isIP(entryName) !== 0)
    return isIP(name) !== 0 && ipaddr.process(entryName).toString() === ipaddr.process(name).toString();
  // `.example.com` and `*.example.com` mean subdomains only, `example.com` the domain as well.
  const domain = entryName.replace(/^\*?\./, '');
  if (name.endsWith(`.${domain}`)) return true;
  return domain === entryName && name === domain;
}

function isInNetwork(name: string, network: string): boolean {
  if (isIP(name) === 0) return false;
  try {
    const [base, bits] = ipaddr.parseCIDR(network);
    const address = ipaddr.process(name);
    return address.kind() === base.kind() && address.match(base, bits);
  } catch {
    return false;
  }
}
