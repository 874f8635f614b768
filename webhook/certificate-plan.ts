import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import type { CertificateAuthority } from '../shim/base/certificate-authority.ts';
import type { KeyPair } from './key-pair.ts';

/**
 * What the replicas share through one Secret: the authority that signs, its successor while that becomes known, the
 * predecessor while certificates of it may be in use, and the certificate that all of them serve.
 */
export interface CertificateState {
  readonly authority?: CertificateAuthority;
  readonly next?: CertificateAuthority;
  readonly previousPem?: string;
  readonly serving?: KeyPair;
  /** When `next` was made or `previousPem` was put aside, ms since the epoch. */
  readonly changedAtMs?: number;
}

export interface CertificateTimes {
  /** How long an authority and a served certificate are made for, ms. */
  readonly authorityMs: number;
  readonly servingMs: number;
  /** From a change of the bundle until all API servers and replicas certainly know it, ms. */
  readonly settleMs: number;
}

/** One thing to do next; the state is looked at anew afterwards. */
export type CertificateStep =
  /** Make an authority, forgetting any that was there, and a certificate of it. */
  | 'start'
  | 'issue'
  /** Make the successor and only let it be known. */
  | 'prepare'
  /** Let the successor sign, and issue. */
  | 'promote'
  | 'forget'
  | 'nothing';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
export const DEFAULT_CERTIFICATE_TIMES: CertificateTimes = {
  authorityMs: 730 * DAY_MS,
  servingMs: 90 * DAY_MS,
  settleMs: 10 * 60_000,
};
/** Renewed when a third of its life is left: weeks, in which anything that hinders it is seen. */
const RENEW_AT_REMAINING = 1 / 3;

/**
 * Admissions go on through every step, because what is trusted always includes what is served: a new authority is made known
 * before it signs, and an old one stays known until nothing of it can be in use.
 */
export function planCertificates(
  state: CertificateState,
  context: {
    readonly nowMs: number;
    readonly times: CertificateTimes;
    readonly hosts: readonly string[];
    /** Whether the API server has been given exactly this state's bundle. */
    readonly bundleIsKnown: boolean;
  },
): CertificateStep {
  const { nowMs, times, bundleIsKnown } = context;
  if (state.authority === undefined) return 'start';
  const authority = readCertificate(state.authority.certificatePem);
  if (authority === undefined || remainingMs(authority, nowMs) <= 0) return 'start';
  const settled = bundleIsKnown && nowMs - (state.changedAtMs ?? 0) >= times.settleMs;
  if (state.next !== undefined && settled) return 'promote';
  if (!isServable(state.serving, authority, context)) return 'issue';
  if (state.previousPem !== undefined) return settled ? 'forget' : 'nothing';
  const isOld = remainingMs(authority, nowMs) < times.authorityMs * RENEW_AT_REMAINING;
  return isOld && state.next === undefined ? 'prepare' : 'nothing';
}

/** PEM of all that may sign what is served now or soon. */
export function bundleOf({ authority, next, previousPem }: CertificateState): string {
  return [authority?.certificatePem, next?.certificatePem, previousPem]
    .filter((pem) => pem !== undefined)
    .map((pem) => `${pem.trim()}\n`)
    .join('');
}

function isServable(
  serving: KeyPair | undefined,
  authority: X509Certificate,
  context: {
    readonly nowMs: number;
    readonly times: CertificateTimes;
    readonly hosts: readonly string[];
  },
): boolean {
  const leaf = serving && readCertificate(serving.certificatePem);
  if (leaf === undefined) return false;
  const { nowMs, times, hosts } = context;
  return (
    leaf.checkIssued(authority) &&
    leaf.verify(authority.publicKey) &&
    remainingMs(leaf, nowMs) >= times.servingMs * RENEW_AT_REMAINING &&
    hosts.every((host) => (isIP(host) ? leaf.checkIP(host) : leaf.checkHost(host)) !== undefined)
  );
}

function remainingMs(certificate: X509Certificate, nowMs: number): number {
  return certificate.validToDate.getTime() - nowMs;
}

function readCertificate(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}
