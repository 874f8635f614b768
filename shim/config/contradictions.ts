import { BlockList, isIP } from 'node:net';
import { metricsPlace } from './metrics-place.ts';
import { splitHostPort } from './setting.ts';
import type { Config } from './settings.ts';

/** What settings that are fine one by one say against each other. */
export function contradictions(config: Config): string[] {
  return [
    ...halfTls(config),
    ...manySources(config),
    ...plaintextPeers(config),
    ...samePorts(config),
    ...sameSockets(config),
    ...waterMarks(config),
  ];
}

/** Whether an address (IP, or `localhost`) never leaves the machine. */
export function isLoopback(host: string): boolean {
  if (host === 'localhost') return true;
  const version = isIP(host);
  return version !== 0 && loopback.check(host, version === 6 ? 'ipv6' : 'ipv4');
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

function halfTls({ peers: { tls } }: Config): string[] {
  const missing = Object.entries(tls).filter(([, path]) => path === '');
  if (missing.length === 0 || missing.length === Object.keys(tls).length) return [];
  return missing.map(([name]) => `peers.tls.${name} is not set, all of peers.tls or nothing of it is wanted`);
}

function manySources({ peers }: Config): string[] {
  const set = ['static', 'dns', 'endpointSlices'].filter((name) => Reflect.get(peers, name).length > 0);
  return set.slice(1).map((name) => `peers.${name} is set, only one of it and peers.${set[0]} is wanted`);
}

function plaintextPeers({ peers, node }: Config): string[] {
  const hasPeers = peers.static.length > 0 || peers.dns !== '' || peers.endpointSlices !== '';
  const host = peers.listen === '' ? node.address : splitHostPort(peers.listen).host;
  const isExposed = peers.listen !== '' || hasPeers;
  if (peers.insecure || peers.tls.cert !== '' || !isExposed || isLoopback(host)) return [];
  const key = peers.listen === '' ? 'node.address' : 'peers.listen';
  const shown = host === '' ? 'not set' : `"${host}"`;
  return [
    `${key} is ${shown}, a loopback address is wanted, or certificates in peers.tls, or peers.insecure: true to let peers talk in plain text`,
  ];
}

function samePorts(config: Config): string[] {
  const users = new Map<number, string>();
  const problems: string[] = [];
  for (const [key, port] of listeners(config)) {
    // 0 takes any free port; a socket path has none.
    if (port === 0 || Number.isNaN(port)) continue;
    const other = users.get(port);
    if (other !== undefined && port !== 0)
      problems.push(`${key} is ${port}, a port other than that of ${other} is wanted`);
    users.set(port, key);
  }
  return problems;
}

function listeners(config: Config): [string, number][] {
  const { http, peers, p2p } = config;
  const peerKey = peers.listen === '' ? 'p2p.v2.p2pPort' : 'peers.listen';
  const peerPort = peers.listen === '' ? p2p.v2.p2pPort : splitHostPort(peers.listen).port;
  const listening: [string, number][] = [
    ['http.listen', splitHostPort(http.listen).port],
    [peerKey, peerPort],
  ];
  const place = metricsPlace(config);
  const metricsKey = config.ExporterConfig.enable ? 'ExporterConfig.port' : 'p2p.v2.exporter.port';
  if (place.kind === 'port') listening.push([metricsKey, place.port]);
  return listening;
}

function sameSockets({ cri, control, http }: Config): string[] {
  const problems: string[] = [];
  const users = new Map([[cri.socket, 'cri.socket']]);
  const others = {
    'cri.containerdSocket': cri.containerdSocket,
    'control.socket': control.socket,
    'http.listen': http.listen,
  };
  for (const [key, path] of Object.entries(others)) {
    const other = users.get(path);
    if (other !== undefined)
      problems.push(`${key} is "${path}", another path than that of ${other} is wanted`);
    users.set(path, key);
  }
  return problems;
}

function waterMarks({ p2p }: Config): string[] {
  const { highWaterPercent, lowWaterPercent } = p2p.v2.cache;
  if (lowWaterPercent <= highWaterPercent) return [];
  return [
    `p2p.v2.cache.lowWaterPercent is ${lowWaterPercent}, at most p2p.v2.cache.highWaterPercent (${highWaterPercent}) is wanted`,
  ];
}
