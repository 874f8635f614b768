import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LINE_BYTES_MAX, parseResult, ResultLines } from '../../../nri/result-lines.ts';
import { isShoalError } from '../../../shim/base/errors.ts';

const whole = {
  image: 'ü/app',
  podUid: 'uid',
  namespace: 'team',
  accelerated: true,
  reason: 'accelerated',
  seconds: 1.5,
  bytes: { origin: 1, peer: 2, cache: 3 },
  endedAtMs: 4,
};
const line = `${JSON.stringify(whole)}\n`;

for (const size of [1, 10, 1000]) {
  test(`lines come back from pieces of ${size} bytes`, () => {
    const bytes = Buffer.from(`${line}\nnot JSON\n${line}`);
    const lines = new ResultLines();
    const found: unknown[] = [];
    for (let offset = 0; offset < bytes.length; offset += size)
      found.push(...lines.feed(bytes.subarray(offset, offset + size)));
    assert.equal(found, [whole, whole]);
  });
}

test('a line without an end is refused', () => {
  const lines = new ResultLines();
  lines.feed(Buffer.alloc(LINE_BYTES_MAX, 'x'));
  assert.throws(
    () => lines.feed(Buffer.from('x')),
    (error: unknown) => isShoalError(error, 'LIMIT_EXCEEDED'),
  );
});

test('what is no result is left out, what is missing in one is counted as nothing', () => {
  for (const text of ['1', 'null', '[]', '{}', JSON.stringify({ ...whole, image: 1 })])
    assert.is(parseResult(text), undefined);
  const { bytes: _bytes, podUid: _podUid, namespace: _namespace, ...rest } = whole;
  assert.equal(parseResult(JSON.stringify(rest)), { ...rest, bytes: { origin: 0, peer: 0, cache: 0 } });
});

test.run();
