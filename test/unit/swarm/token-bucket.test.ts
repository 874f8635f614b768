import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TokenBucket } from '../../../shim/swarm/token-bucket.ts';

test('TokenBucket.take() lets the burst pass and then says when', () => {
  const bucket = new TokenBucket({ rateBytesPerSecond: 1000, burstBytes: 100 });
  assert.is(bucket.take(100, 0), undefined);
  assert.is(bucket.take(50, 0), 50);
  assert.is(bucket.take(50, 50), undefined);
});

test('TokenBucket.take() holds the mean rate for pieces larger than the burst', () => {
  const bucket = new TokenBucket({ rateBytesPerSecond: 1_000_000, burstBytes: 10_000 });
  let nowMs = 0;
  let bytes = 0;
  while (nowMs < 10_000) {
    const retryAtMs = bucket.take(65_536, nowMs);
    if (retryAtMs === undefined) bytes += 65_536;
    else nowMs = retryAtMs;
  }
  assert.ok(Math.abs(bytes / 10_000_000 - 1) < 0.02, `${bytes} bytes in 10 s`);
});

test('TokenBucket: a rest earns no more than the burst', () => {
  const bucket = new TokenBucket({ rateBytesPerSecond: 1000, burstBytes: 100 });
  bucket.take(100, 0);
  assert.is(bucket.take(100, 60_000), undefined);
  assert.ok(bucket.take(100, 60_000) !== undefined);
});

test.run();
