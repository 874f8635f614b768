import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BackOff } from '../../../nri/back-off.ts';
import { MESSAGES_MAX, NoticeQueue, syncBody } from '../../../nri/notice-queue.ts';
import type { AgentMessage } from '../../../nri/plugin.ts';
import { POD_SYNC_BYTES_MAX, type PodNotice } from '../../../shim/agent/control-protocol.ts';

const removed = (podUid: string): AgentMessage => ({ kind: 'removed', podUid });

test('messages come in their order', () => {
  const queue = new NoticeQueue();
  assert.is(queue.push(removed('a')), 'kept');
  queue.push(removed('b'));
  assert.equal([queue.shift(), queue.shift(), queue.shift()], [removed('a'), removed('b'), undefined]);
});

test('all pods at once take the place of what waited', () => {
  const queue = new NoticeQueue();
  queue.push(removed('a'));
  queue.requestSync();
  assert.is(queue.shift(), 'sync');
  queue.push(removed('b'));
  assert.equal(queue.shift(), removed('b'));
});

test('a full queue loses its oldest message and tells all pods instead', () => {
  const queue = new NoticeQueue();
  for (let index = 0; index < MESSAGES_MAX; index++) assert.is(queue.push(removed(`${index}`)), 'kept');
  assert.is(queue.push(removed('last')), 'dropped');
  assert.is(queue.shift(), 'sync');
  assert.is(queue.shift(), undefined);
});

test('syncBody() leaves out the oldest pods when there are more than the agent takes', () => {
  const pod = (podUid: string): PodNotice => {
    const annotations = { 'k8s.aliyun.com/p2p-config': 'ü'.repeat(100_000) };
    return { podUid, namespace: 'n', name: 'p', labels: {}, annotations, warm: false };
  };
  const pods = Array.from({ length: 60 }, (_, index) => pod(`${index}`));
  const body = syncBody(pods);
  assert.ok(Buffer.byteLength(body) <= POD_SYNC_BYTES_MAX);
  const told = (JSON.parse(body) as { pods: PodNotice[] }).pods.map(({ podUid }) => podUid);
  assert.is(told.at(-1), '59');
  assert.ok(told.length > 35 && told.length < 60);
  assert.equal(
    told,
    [...told].sort((left, right) => Number(left) - Number(right)),
  );
  assert.is(syncBody([]), '{"pods":[]}');
});

test('BackOff doubles up to its limit, is shortened by chance, and starts again', () => {
  const backOff = new BackOff(100, 350);
  assert.equal(
    [1, 1, 0, 1].map((chance) => backOff.next(chance)),
    [100, 200, 175, 350],
  );
  backOff.reset();
  assert.is(backOff.next(0), 50);
});

test.run();
