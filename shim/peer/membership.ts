import { lookup } from 'node:dns/promises';
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
  /** A name with one address a peer, such as that of a headless service. */
  readonly name: string;
  readonly port: number;
  /** Default 30 s; each wait is spread by ±20 % so that nodes do not ask in step. */
  readonly intervalMs?: number;
  /** Between 0 and 1. */
  readonly random?: () => number;
  readonly resolve?: (name: string) => Promise<readonly string[]>;
}

const DNS_INTERVAL_MS = 30_000;
/** After a failed or empty answer: a starting cluster has names before it has addresses. */
const DNS_RETRY_MS = 2_000;
const JITTER = 0.2;

/** Every A and AAAA record of a name is a peer. A failed lookup keeps the peers that are known. */
export function dnsMembers(options: DnsMembersOptions): MembershipSource {
  const { name, port, intervalMs = DNS_INTERVAL_MS, random = Math.random, resolve = lookupAll } = options;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  const ask = async (onMembers: (members: readonly PeerMember[]) => void): Promise<void> => {
    const addresses = await resolve(name).catch(() => []);
    if (closed) return;
    if (addresses.length > 0)
      onMembers(addresses.map((address) => ({ peer: peerIdOf(address, port), zone: '', names: [name] })));
    const waitMs = addresses.length > 0 ? intervalMs : Math.min(intervalMs, DNS_RETRY_MS);
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

async function lookupAll(name: string): Promise<string[]> {
  const answers = await lookup(name, { all: true });
  return answers.map((answer) => answer.address);
}
