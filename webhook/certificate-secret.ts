import type { CertificateAuthority } from '../shim/base/certificate-authority.ts';
import type { CertificateState } from './certificate-plan.ts';
import { checkKeyPair, type KeyPair } from './key-pair.ts';

type SecretData = Readonly<Record<string, string>>;

/** Keys of the Secret; those of the served certificate are the usual ones. */
const KEYS = {
  authority: ['ca.crt', 'ca.key'],
  next: ['next-ca.crt', 'next-ca.key'],
  serving: ['tls.crt', 'tls.key'],
  previous: 'previous-ca.crt',
  changedAt: 'changed-at',
} as const;

/** Reads the Secret's data (base64). What is missing or damaged is not there, and is made anew. */
export function stateFromData(data: SecretData): CertificateState {
  const authority = readPair(data, KEYS.authority);
  const next = readPair(data, KEYS.next);
  const serving = readPair(data, KEYS.serving);
  const previousPem = decode(data[KEYS.previous]);
  const changedAtMs = Number(decode(data[KEYS.changedAt]));
  return {
    ...(authority && { authority }),
    ...(next && { next }),
    ...(serving && { serving }),
    ...(previousPem !== undefined && { previousPem }),
    ...(Number.isSafeInteger(changedAtMs) && { changedAtMs }),
  };
}

export function stateToData({
  authority,
  next,
  serving,
  previousPem,
  changedAtMs,
}: CertificateState): SecretData {
  return {
    ...writePair(authority, KEYS.authority),
    ...writePair(next, KEYS.next),
    ...writePair(serving, KEYS.serving),
    ...(previousPem !== undefined && { [KEYS.previous]: encode(previousPem) }),
    ...(changedAtMs !== undefined && { [KEYS.changedAt]: encode(String(changedAtMs)) }),
  };
}

/** An authority and a served certificate have the same two parts. */
type Pair = CertificateAuthority & KeyPair;

function readPair(data: SecretData, [certificateKey, keyKey]: readonly [string, string]): Pair | undefined {
  const pair = { certificatePem: decode(data[certificateKey]) ?? '', keyPem: decode(data[keyKey]) ?? '' };
  try {
    checkKeyPair(pair);
    return pair;
  } catch {
    return undefined;
  }
}

function writePair(pair: Pair | undefined, [certificateKey, keyKey]: readonly [string, string]): SecretData {
  if (pair === undefined) return {};
  return { [certificateKey]: encode(pair.certificatePem), [keyKey]: encode(pair.keyPem) };
}

function decode(value: string | undefined): string | undefined {
  return value === undefined ? undefined : Buffer.from(value, 'base64').toString('utf8');
}

function encode(value: string): string {
  return Buffer.from(value).toString('base64');
}
