import { BlockList, isIP, isIPv6 } from 'node:net';
import type { PeerId } from '../swarm/messages.ts';

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8);
LOOPBACK.addAddress('::1', 'ipv6');

/** `address:port`, with brackets around an IPv6 address. */
export function peerIdOf(host: string, port: number): PeerId {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

export function splitPeerId(peer: PeerId): { readonly host: string; readonly port: number } | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(peer);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || !(port >= 1 && port <= 65_535)) return undefined;
  return { host, port };
}

/** Whether only this machine can reach `host`. Names are not looked up: they may change. */
export function isLoopback(host: string): boolean {
  if (host === 'localhost') return true;
  const family = isIP(host);
  return family !== 0 && LOOPBACK.check(host, family === 6 ? 'ipv6' : 'ipv4');
}

/** Whether a connection from `remote` may speak for `peer`: its address must be the one that the name has. */
export function speaksFor(remote: string | undefined, peer: PeerId): boolean {
  const host = splitPeerId(peer)?.host;
  if (host === undefined || remote === undefined) return false;
  if (isIP(host) === 0) return true;
  return withoutV4Prefix(remote) === withoutV4Prefix(host);
}

function withoutV4Prefix(address: string): string {
  return address.toLowerCase().replace(/^::ffff:(?=\d+\.)/, '');
}
