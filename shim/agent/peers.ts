import type { Logger } from 'pino';
import { splitHostPort } from '../config/setting.ts';
import type { Config } from '../config/settings.ts';
import { dnsMembers, type MembershipSource, staticMembers } from '../peer/membership.ts';
import { peerIdOf } from '../peer/peer-address.ts';
import type { PeerOptions } from '../peer/transfer-engine.ts';
import { defaultRouteAddress } from './node-address.ts';

/** Where peers reach this node, `IP:PORT`: its identity among them and in metrics. */
export function peerAddressOf(config: Config): string {
  if (config.peers.listen !== '') return config.peers.listen;
  return peerIdOf(config.node.address || defaultRouteAddress(), config.p2p.v2.p2pPort);
}

/** The part that a node has in the peer network. */
export function peersOf(config: Config, log: Logger): PeerOptions {
  const self = peerAddressOf(config);
  return {
    self,
    zone: config.node.zone,
    listen: { ...splitHostPort(self), insecure: config.peers.insecure },
    mayReadOrigin: config.DeployConfig.mode === 'root',
    members: membersOf(config),
    onNote: ({ event, peer, detail }) => log.debug({ peer, detail }, event),
  };
}

function membersOf(config: Config): MembershipSource {
  const { dns } = config.peers;
  if (dns === '') return staticMembers(config.peers.static.map((peer) => ({ peer, zone: '' })));
  const { host, port } = splitHostPort(dns.includes(':') ? dns : `${dns}:${config.p2p.v2.p2pPort}`);
  return dnsMembers({ name: host, port });
}
