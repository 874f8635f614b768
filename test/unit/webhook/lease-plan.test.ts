import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  DEFAULT_LEASE_TIMES,
  holdsLease,
  type LeaseObservation,
  observeLease,
  planLease,
} from '../../../webhook/lease-plan.ts';

const record = (holder: string | undefined, renewTime = 'r1') => ({ holder, renewTime, durationMs: 15_000 });

test('planLease() makes a lease where there is none, and takes one that was given up', () => {
  assert.is(planLease(undefined, 'me', 0), 'create');
  for (const holder of ['', undefined])
    assert.is(planLease(observeLease(undefined, record(holder), 0), 'me', 0), 'take');
  assert.is(planLease(observeLease(undefined, record('me'), 0), 'me', 99_000), 'renew');
});

test('planLease() takes a lease from another only after watching it unrenewed for its whole time', () => {
  let seen: LeaseObservation = observeLease(undefined, record('other'), 1_000);
  seen = observeLease(seen, record('other'), 15_999);
  assert.is(planLease(seen, 'me', 15_999), 'wait');
  assert.is(planLease(seen, 'me', 16_000), 'take');
  const renewed = observeLease(seen, record('other', 'r2'), 15_999);
  assert.is(planLease(renewed, 'me', 30_000), 'wait');
  assert.is(planLease(renewed, 'me', 30_999), 'take');
  const changedHands = observeLease(seen, record('third'), 15_999);
  assert.is(planLease(changedHands, 'me', 30_000), 'wait');
});

test('holdsLease() ends before another may take the lease', () => {
  const { renewDeadlineMs, durationMs, retryMs } = DEFAULT_LEASE_TIMES;
  assert.ok(holdsLease(1_000, 1_000 + renewDeadlineMs - 1, DEFAULT_LEASE_TIMES));
  assert.not.ok(holdsLease(1_000, 1_000 + renewDeadlineMs, DEFAULT_LEASE_TIMES));
  assert.not.ok(holdsLease(undefined, 0, DEFAULT_LEASE_TIMES));
  assert.ok(renewDeadlineMs + retryMs < durationMs);
});

test.run();
