import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RESULT_AGE_MS, RESULTS_MAX, ResultMemory } from '../../../nri/result-memory.ts';
import type { PullResult } from '../../../shim/agent/control-protocol.ts';

function result(image: string, podUid: string | undefined, endedAtMs: number): PullResult {
  const bytes = { origin: 0, peer: 0, cache: 0 };
  const pod = podUid === undefined ? {} : { podUid };
  return { image, ...pod, accelerated: true, reason: 'accelerated', seconds: 1, bytes, endedAtMs };
}

test('a pod finds its own result before a newer one of another pod', () => {
  const memory = new ResultMemory();
  memory.add(result('nginx', 'mine', 1));
  memory.add(result('nginx:latest', 'other', 2));
  assert.is(memory.find('docker.io/library/nginx:latest', 'mine', 3)?.podUid, 'mine');
  assert.is(memory.find('nginx', 'third', 3)?.podUid, 'other');
  assert.is(memory.find('nginx:1', 'mine', 3), undefined);
});

test('a result that is told again does not take the place of a newer one', () => {
  const memory = new ResultMemory();
  memory.add(result('nginx', 'mine', 5));
  memory.add(result('nginx', 'mine', 4));
  assert.is(memory.find('nginx', 'mine', 6)?.endedAtMs, 5);
});

test('an old result tells nothing', () => {
  const memory = new ResultMemory();
  memory.add(result('nginx', 'mine', 0));
  assert.ok(memory.find('nginx', 'mine', RESULT_AGE_MS));
  assert.is(memory.find('nginx', 'mine', RESULT_AGE_MS + 1), undefined);
});

test('no more results are kept than allowed, and the oldest goes first', () => {
  const memory = new ResultMemory();
  for (let index = 0; index <= RESULTS_MAX; index++) memory.add(result(`app${index}`, undefined, index));
  assert.is(memory.size, RESULTS_MAX);
  assert.is(memory.find('app0', '', 0), undefined);
  assert.ok(memory.find(`app${RESULTS_MAX}`, '', RESULTS_MAX));
});

test.run();
