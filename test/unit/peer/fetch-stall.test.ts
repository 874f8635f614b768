import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, ShoalError } from '../../../shim/base/errors.ts';
import { type IdleFetch, idleSinceMs, verdictOnIdle, type Waiting } from '../../../shim/peer/fetch-stall.ts';

const refused = new ShoalError(ErrorCode.Forbidden, 'Cannot read: 403');
const failed = new ShoalError(ErrorCode.RegistryUnavailable, 'Cannot read: 503', { retriable: true });
const wrong = new ShoalError(ErrorCode.RegistryProtocol, 'Cannot read: no range');

/** The code of what a fetch of which this is known fails with, and '' while it goes on. */
function codeAfter(idleMs: number, known: Partial<IdleFetch> = {}): string {
  const fetch = { digest: 'sha256:1', originError: undefined, isAlone: false, blobStallMs: 60_000, ...known };
  return verdictOnIdle({ ...fetch, idleMs })?.code ?? '';
}

test('nothing came, and nobody said why: the stall limit decides', () => {
  assert.is(codeAfter(60_000), '');
  assert.is(codeAfter(60_001), 'STALLED');
});

test('the origin refused this node: peers get a little time, who has none gets no time', () => {
  assert.is(codeAfter(3_000, { originError: refused }), '');
  assert.is(codeAfter(3_001, { originError: refused }), refused.code);
  assert.is(codeAfter(1, { originError: refused, isAlone: true }), refused.code);
});

test('the origin fails: it gets time to come round, less when its answers are wrong and there is nobody else', () => {
  assert.is(codeAfter(15_000, { originError: failed, isAlone: true }), '');
  assert.is(codeAfter(15_001, { originError: failed, isAlone: true }), failed.code);
  assert.is(codeAfter(4_001, { originError: wrong }), '');
  assert.is(codeAfter(4_001, { originError: wrong, isAlone: true }), wrong.code);
});

test('what waits for leave is not idle, and what waits for others is only when they get nothing either', () => {
  const idleSince = (known: Partial<Waiting>): number =>
    idleSinceMs({
      wait: 'none',
      originError: undefined,
      progressMs: 100,
      othersMs: 700,
      nowMs: 1_000,
      ...known,
    });
  assert.is(idleSince({}), 100);
  assert.is(idleSince({ wait: 'leave' }), 1_000);
  assert.is(idleSince({ wait: 'others' }), 700);
  assert.is(idleSince({ wait: 'others', othersMs: Number.NEGATIVE_INFINITY }), 100);
});

test('what waits for others also waits to try the origin again, but not where that has refused this node', () => {
  const known = { progressMs: 100, othersMs: 700, nowMs: 1_000 };
  assert.is(idleSinceMs({ ...known, wait: 'others', originError: failed }), 700);
  assert.is(idleSinceMs({ ...known, wait: 'others', originError: refused }), 100);
  assert.is(idleSinceMs({ ...known, wait: 'leave', originError: failed }), 100);
});

test.run();
