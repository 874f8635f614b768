import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

/** Whether `host` (`name`, `name:port`, `[v6]:port`) is this machine by name or address: where containerd allows plain HTTP. */
export function isLoopbackHost(host: string): boolean {
  const name = hostName(host);
  if (name === 'localhost') return true;
  return isIP(name) !== 0 && ipaddr.process(name).range() === 'loopback';
}

/** The host without port and brackets. */
export function hostName(host: string): string {
  if (isIP(host) === 6) return host;
  const bracketed = /^\[([^\]]*)\](?::\d+)?$/.exec(host);
  return bracketed?.[1] ?? host.replace(/:\d+$/, '');
}

/** The port written in `host`, if any. */
export function hostPort(host: string): string | undefined {
  return isIP(host) === 6 ? undefined : /:(\d+)$/.exec(host)?.[1];
}
