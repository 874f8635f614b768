import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { PullResult } from '../../../shim/agent/control-protocol.ts';
import { PullResults, RESULT_AGE_MAX_MS, RESULTS_MAX } from '../../../shim/agent/pull-results.ts';

test('publish() has told everybody when it returns, and those who left no longer', () => {
  const results = new PullResults(() => 0);
  const seen: string[] = [];
  const leave = results.subscribe(({ image }) => void seen.push(image));
  results.publish(result('a', 0));
  assert.equal(seen, ['a']);
  leave();
  results.publish(result('b', 0));
  assert.equal(seen, ['a']);
  assert.is(results.listenerCount, 0);
});

test('recent() keeps so many, so long', () => {
  let nowMs = 0;
  const results = new PullResults(() => nowMs);
  for (let number = 0; number < RESULTS_MAX + 10; number++) results.publish(result(`${number}`, number));
  assert.is(results.recent().length, RESULTS_MAX);
  assert.is(results.recent()[0]?.image, '10');
  nowMs = RESULT_AGE_MAX_MS + 15;
  assert.is(results.recent()[0]?.image, '16');
});

test.run();

function result(image: string, endedAtMs: number): PullResult {
  const bytes = { origin: 0, peer: 0, cache: 0 };
  return { image, accelerated: true, reason: 'accelerated', seconds: 1, bytes, endedAtMs };
}
