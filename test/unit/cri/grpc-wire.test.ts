import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  encodeStatusMessage,
  formatTimeout,
  frameMessage,
  parseTimeout,
  unframeMessage,
  withTimeout,
} from '../../../shim/cri/grpc-wire.ts';

test('parseTimeout() reads every unit and refuses what the protocol does not allow', () => {
  const cases: readonly [string | undefined, number | undefined][] = [
    ['1H', 3_600_000],
    ['2M', 120_000],
    ['3S', 3000],
    ['4m', 4],
    ['5000u', 5],
    ['6000000n', 6],
    ['0n', 0],
    [undefined, undefined],
    ['', undefined],
    ['1', undefined],
    ['-1S', undefined],
    ['123456789n', undefined],
    ['1s', undefined],
  ];
  for (const [value, wanted] of cases) {
    const found = parseTimeout(value);
    if (wanted === undefined || found === undefined) assert.is(found, wanted, String(value));
    else assert.ok(Math.abs(found - wanted) < 1e-9, `${value}: ${found}`);
  }
});

test('formatTimeout() never grows a timeout by more than a rounding and fits eight digits', () => {
  for (const timeoutMs of [0, 1e-6, 0.5, 99, 100, 1234.5, 99_999, 2 * 60_000, 3_600_000, 1e9, 1e12]) {
    const text = formatTimeout(timeoutMs);
    assert.match(text, /^\d{1,8}[numSMH]$/);
    const back = parseTimeout(text) ?? Number.NaN;
    assert.ok(back >= timeoutMs && back <= timeoutMs * 1.000_01 + 1e-5, `${timeoutMs} → ${text}`);
  }
});

test('withTimeout() replaces the deadline and nothing else', () => {
  const headers = [':path', '/a', 'grpc-timeout', '1S', 'x', 'grpc-timeout'];
  assert.equal(withTimeout(headers, 0.002), [':path', '/a', 'grpc-timeout', '2000n', 'x', 'grpc-timeout']);
  assert.equal(withTimeout(['a', 'b'], 5), ['a', 'b']);
});

test('unframeMessage() gives back what frameMessage() made and refuses anything else', () => {
  const message = Buffer.from('hello');
  assert.equal(unframeMessage(frameMessage(message)), { compressed: false, message });
  for (const bad of [
    Buffer.alloc(0),
    Buffer.alloc(4),
    Buffer.concat([frameMessage(message), Buffer.from('x')]),
    frameMessage(message).subarray(0, 9),
    Buffer.concat([frameMessage(message), frameMessage(message)]),
    Buffer.from([2, 0, 0, 0, 0]),
  ]) {
    assert.throws(() => unframeMessage(bad), /wanted one gRPC frame/);
  }
});

test('encodeStatusMessage() keeps printable ASCII and encodes the rest', () => {
  assert.is(encodeStatusMessage('a b~ 100 %\n€'), 'a b~ 100 %25%0A%E2%82%AC');
  assert.ok(encodeStatusMessage('€'.repeat(10_000)).length <= 4096);
  assert.match(encodeStatusMessage('€'.repeat(10_000)), /^(%E2%82%AC)+$/);
});

test.run();
