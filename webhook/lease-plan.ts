/** A Lease (coordination.k8s.io/v1) as far as an election looks at it. */
export interface LeaseRecord {
  /** Empty or undefined where nobody holds it. */
  readonly holder: string | undefined;
  readonly durationMs: number;
  /** Changes with each renewal. */
  readonly renewTime: string;
}

/** What a candidate has seen of a lease: times are its own, so that clocks of others do not matter. */
export interface LeaseObservation {
  readonly record: LeaseRecord;
  readonly sinceMs: number;
}

export interface LeaseTimes {
  /** A holder that does not renew for this long is followed by another, ms. */
  readonly durationMs: number;
  /** A holder that could not renew for this long stops by itself, ms; well under `durationMs`. */
  readonly renewDeadlineMs: number;
  readonly retryMs: number;
}

/** Those of the Kubernetes components. */
export const DEFAULT_LEASE_TIMES: LeaseTimes = {
  durationMs: 15_000,
  renewDeadlineMs: 10_000,
  retryMs: 2_000,
};

export type LeaseStep = 'create' | 'take' | 'renew' | 'wait';

/** The observation after another look at the lease. */
export function observeLease(
  before: LeaseObservation | undefined,
  record: LeaseRecord,
  nowMs: number,
): LeaseObservation {
  const same =
    before !== undefined &&
    before.record.holder === record.holder &&
    before.record.renewTime === record.renewTime &&
    before.record.durationMs === record.durationMs;
  return same ? before : { record, sinceMs: nowMs };
}

/** What a candidate does about a lease that it has just looked at; undefined where there is none. */
export function planLease(seen: LeaseObservation | undefined, me: string, nowMs: number): LeaseStep {
  if (seen === undefined) return 'create';
  const { record, sinceMs } = seen;
  if (record.holder === me) return 'renew';
  if (record.holder === undefined || record.holder === '') return 'take';
  return nowMs - sinceMs >= record.durationMs ? 'take' : 'wait';
}

/** Whether a holder may still act: it renewed in time, by its own clock from before it asked. */
export function holdsLease(renewedAtMs: number | undefined, nowMs: number, times: LeaseTimes): boolean {
  return renewedAtMs !== undefined && nowMs - renewedAtMs < times.renewDeadlineMs;
}
