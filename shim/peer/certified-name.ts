import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import type { PeerId } from '../swarm/messages.ts';
import { splitPeerId } from './peer-address.ts';

/**
 * Whether the certificate is one for `peer`: a subject alternative name is the host of its name (IP or DNS), or one of the
 * `names` under which the membership source knows it. The subject itself counts for nothing (RFC 6125, 6.4.4).
 */
export function certifies(certificate: X509Certificate, peer: PeerId, names: readonly string[]): boolean {
  const host = splitPeerId(peer)?.host;
  if (host === undefined) return false;
  const isNamed = isIP(host) === 0 ? isHost(certificate, host) : certificate.checkIP(host) !== undefined;
  return isNamed || names.some((name) => isHost(certificate, name));
}

function isHost(certificate: X509Certificate, name: string): boolean {
  return (
    name !== '' && certificate.checkHost(name, { subject: 'never', partialWildcards: false }) !== undefined
  );
}
