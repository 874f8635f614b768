import { lookup, resolveSrv } from 'node:dns/promises';
import type { Member } from '../swarm/swarm-node.ts';
import { peerIdOf } from './peer-address.ts';

/** One node of the cluster. `names`: other names than its address that its certificate may be for. */
export interface PeerMember extends Member {
  readonly names?: readonly string[];
}

/** Who takes part. Zones are what the source knows; peers say their own when they connect. */
export interface MembershipSource {
  /** Calls back with the full membership, now or later and whenever it changes. Called once. */
  start(onMembers: (members: readonly PeerMember[]) => void): void;
  close(): void;
}

export function staticMembers(members: readonly PeerMember[]): MembershipSource {
  return { start: (onMembers) => onMembers(members), close: () => undefined };
}

export interface DnsMembersOptions {
  /** A name with one address a peer, such as that of a headless service; one that begins with `_` has SRV records. */
  readonly name: string;
  /** Of every peer; SRV records bring their own. */
  readonly port: number;
  /** Default 30 s; each wait is spread by ±20 % so that nodes do not ask in step. */
  readonly intervalMs?: number;
  /** Between 0 and 1. */
  readonly random?: () => number;
  /** Default: the resolver of the system. */
  readonly resolver?: DnsResolver;
}

export interface DnsResolver {
  /** A and AAAA records. */
  addresses(name: string): Promise<readonly string[]>;
  services(name: string): Promise<readonly { readonly name: string; readonly port: number }[]>;
}

const DNS_INTERVAL_MS = 30_000;
/** After a failed or empty answer: a starting cluster has names before it has addresses. */
const DNS_RETRY_MS = 2_000;
const JITTER = 0.2;
/** Names of SRV records that are looked up at once. */
const LOOKUPS_MAX = 32;

/** Every A, AAAA or SRV record of a name is a peer. A failed or empty lookup keeps the peers that are known. */
export function dnsMembers(options: DnsMembersOptions): MembershipSource {
  const { intervalMs = DNS_INTERVAL_MS, random = Math.random } = options;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  const ask = async (onMembers: (members: readonly PeerMember[]) => void): Promise<void> => {
    const members = await resolveMembers(options).catch(() => []);
    if (closed) return;
    if (members.length > 0) onMembers(members);
    const waitMs = members.length > 0 ? intervalMs : Math.min(intervalMs, DNS_RETRY_MS);
    timer = setTimeout(() => void ask(onMembers), waitMs * (1 - JITTER + 2 * JITTER * random()));
    timer.unref();
  };
  return {
    start: (onMembers) => void ask(onMembers),
    close: () => {
      closed = true;
      clearTimeout(timer);
    },
  };
}

async function resolveMembers(options: DnsMembersOptions): Promise<PeerMember[]> {
  const { name, port, resolver = systemResolver } = options;
  if (!name.startsWith('_')) return membersAt(await resolver.addresses(name), port, [name]);
  const services = [...(await resolver.services(name))];
  const members: PeerMember[] = [];
  while (services.length > 0) {
    const part = services.splice(0, LOOKUPS_MAX);
    // One target without an address, of a node that is just going, is no reason to lose the others.
    const found = await Promise.all(
      part.map(async (service) => {
        const addresses = await resolver.addresses(service.name).catch(() => []);
        return membersAt(addresses, service.port, [service.name, name]);
      }),
    );
    members.push(...found.flat());
  }
  return members;
}

function membersAt(addresses: readonly string[], port: number, names: readonly string[]): PeerMember[] {
  return addresses.map((address) => ({ peer: peerIdOf(address, port), zone: '', names }));
}

const systemResolver: DnsResolver = {
  addresses: async (name) => (await lookup(name, { all: true })).map(({ address }) => address),
  services: (name) => resolveSrv(name),
};
