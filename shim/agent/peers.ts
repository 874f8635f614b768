import { totalmem } from 'node:os';
import type { Logger } from 'pino';
import { splitHostPort } from '../config/setting.ts';
import type { Config } from '../config/settings.ts';
import { dnsMembers, type MembershipSource, staticMembers } from '../peer/membership.ts';
import { peerIdOf } from '../peer/peer-address.ts';
import { type PeerTransport, plainTransport } from '../peer/peer-transport.ts';
import { openTlsTransport } from '../peer/tls-transport.ts';
import type { PeerOptions } from '../peer/transfer-engine.ts';
import { paceForMemory } from '../swarm/consumer-pace.ts';
import { endpointSliceMembers } from './endpoint-slice-members.ts';
import { defaultRouteAddress } from './node-address.ts';

const LOOPBACK = '127.0.0.1';

/** Where peers reach this node, `IP:PORT`: its identity among them and in metrics. */
export function peerAddressOf(config: Config): string {
  return config.peers.advertise || listenAddressOf(config);
}

function listenAddressOf(config: Config): string {
  if (config.peers.listen !== '') return config.peers.listen;
  return peerIdOf(config.node.address || defaultRouteAddress(), config.p2p.v2.p2pPort);
}

/** The part that a node has in the peer network. What it opens is closed with `opened`. @throws ConfigInvalid */
export async function peersOf(
  config: Config,
  log: Logger,
  opened: AsyncDisposableStack,
): Promise<PeerOptions> {
  const self = peerAddressOf(config);
  const transport = await transportOf(config, log, opened);
  return {
    self,
    zone: config.node.zone,
    listen: listenOf(config, transport),
    transport,
    mayReadOrigin: config.DeployConfig.mode === 'root',
    members: membersOf(config, log),
    swarmLimits: paceForMemory(availableMemoryBytes()),
    onNote: ({ event, peer, detail }) => log.debug({ peer, detail }, event),
  };
}

/** Of this process and the page cache of its files: what its cgroup may use, or the machine has. */
function availableMemoryBytes(): number {
  const limitBytes = process.constrainedMemory();
  return limitBytes > 0 ? Math.min(limitBytes, totalmem()) : totalmem();
}

async function transportOf(
  config: Config,
  log: Logger,
  opened: AsyncDisposableStack,
): Promise<PeerTransport> {
  const { tls, insecure } = config.peers;
  if (tls.cert !== '') {
    const onReload = (problem: string | undefined): void =>
      problem === undefined
        ? log.info('new certificate for peers')
        : log.warn({ problem }, 'cannot take up the certificate for peers: the one before stays in use');
    return opened.adopt(await openTlsTransport({ files: tls, onReload }), (each) => each.close());
  }
  if (insecure)
    log.warn(
      'peers.insecure: peers talk in plain text and anybody in their network can read and fake what they say',
    );
  return plainTransport;
}

/** Without certificates other machines are kept out, unless the configuration lets them in. */
function listenOf(config: Config, transport: PeerTransport): PeerOptions['listen'] {
  const { insecure, listen } = config.peers;
  const place = splitHostPort(listenAddressOf(config));
  const isOpen = transport.isSecure || insecure || listen !== '';
  return { ...place, insecure, host: isOpen ? place.host : LOOPBACK };
}

function membersOf(config: Config, log: Logger): MembershipSource {
  const { dns, endpointSlices } = config.peers;
  const { p2pPort } = config.p2p.v2;
  if (endpointSlices !== '') {
    const { kubeconfig } = config.kubernetes;
    return endpointSliceMembers({ service: endpointSlices, kubeconfig, port: p2pPort, log });
  }
  if (dns === '') return staticMembers(config.peers.static.map((peer) => ({ peer, zone: '' })));
  const { host, port } = splitHostPort(dns.includes(':') ? dns : `${dns}:${p2pPort}`);
  return dnsMembers({ name: host, port });
}
