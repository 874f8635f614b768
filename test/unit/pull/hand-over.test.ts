import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, ShoalError } from '../../../shim/base/errors.ts';
import { judgeFailure } from '../../../shim/pull/hand-over.ts';

const ALWAYS_RETURNED: readonly string[] = [ErrorCode.NotFound, ErrorCode.Cancelled];
const REFUSALS: readonly string[] = [ErrorCode.Unauthorized, ErrorCode.Forbidden];

for (const code of Object.values(ErrorCode)) {
  test(`judgeFailure() decides about ${code}`, () => {
    const error = new ShoalError(code, 'Cannot pull "x": it failed');
    const withCredentials = ALWAYS_RETURNED.includes(code) || REFUSALS.includes(code);
    const without = ALWAYS_RETURNED.includes(code);
    const verdict = (isReturned: boolean) => ({ verdict: isReturned ? 'return' : 'handOver', reason: code });
    assert.equal(judgeFailure(error, true), verdict(withCredentials));
    assert.equal(judgeFailure(error, false), verdict(without));
  });
}

test('judgeFailure() hands over what is our own bug', () => {
  for (const bug of [new TypeError('x is not a function'), 'text', undefined])
    assert.equal(judgeFailure(bug, true), { verdict: 'handOver', reason: 'internal' });
});

test.run();
