import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Container, PodSandbox } from '../../../nri/nri-messages.ts';
import { Plugin, PODS_MAX, WARM_WINDOW_MS } from '../../../nri/plugin.ts';
import type { PullResult } from '../../../shim/agent/control-protocol.ts';

const MODE = 'k8s.aliyun.com/image-accelerate-mode';
const RESULT = 'k8s.aliyun.com/p2p-result';
const now = { nowMs: 1000, isAgentConnected: true };

function pod(id: string, more: Partial<PodSandbox> = {}): PodSandbox {
  return {
    id,
    name: 'web',
    uid: 'uid',
    namespace: 'team',
    labels: {},
    annotations: { [MODE]: 'p2p' },
    runtimeHandler: '',
    ...more,
  };
}

function container(more: Partial<Container> = {}): Container {
  const annotations = { 'io.kubernetes.cri.image-name': 'registry.test/app:1' };
  return { id: 'c', podSandboxId: 's', name: 'app', annotations, imageName: '', ...more };
}

const result: PullResult = {
  image: 'registry.test/app:1',
  podUid: 'uid',
  accelerated: true,
  reason: 'accelerated',
  seconds: 1.23456,
  bytes: { origin: 1, peer: 2, cache: 3 },
  endedAtMs: 900,
};

test('the agent hears of pods that say something, with what stands under the prefix alone', () => {
  const plugin = new Plugin('k8s.aliyun.com');
  const marks = { 'k8s.aliyun.com/p2p-config': '{}', 'io.kubernetes.cri.sandbox-id': 's', secret: 'x' };
  const message = plugin.runPodSandbox(
    pod('s', { labels: { [MODE]: 'p2p', app: 'web' }, annotations: marks, runtimeHandler: 'kata' }),
    0,
  );
  assert.equal(message, {
    kind: 'started',
    notice: {
      podUid: 'uid',
      namespace: 'team',
      name: 'web',
      sandboxId: 's',
      runtimeHandler: 'kata',
      labels: { [MODE]: 'p2p' },
      annotations: { 'k8s.aliyun.com/p2p-config': '{}' },
      warm: true,
    },
  });
  assert.is(plugin.runPodSandbox(pod('t', { annotations: {} }), 0), undefined);
  assert.is(plugin.runPodSandbox(pod('t', { annotations: { 'other.example/x': 'p2p' } }), 0), undefined);
});

test('a pod that says off anywhere is remembered and never warmed', () => {
  const plugin = new Plugin('k8s.aliyun.com');
  const message = plugin.runPodSandbox(pod('s', { labels: { [MODE]: 'off' } }), 0);
  assert.is(message?.kind === 'started' && message.notice.warm, false);
  assert.equal(plugin.createContainer(pod('s', { labels: { [MODE]: 'off' } }), container(), now), {});
  const listed = pod('t', { annotations: { 'k8s.aliyun.com/p2p-config': '{}' } });
  const other = plugin.runPodSandbox(listed, 0);
  assert.is(other?.kind === 'started' && other.notice.warm, true, 'its namespace may have opted in');
});

test('a pod is removed with its last sandbox', () => {
  const plugin = new Plugin('k8s.aliyun.com');
  plugin.runPodSandbox(pod('first'), 0);
  plugin.runPodSandbox(pod('second'), 0);
  assert.is(plugin.removePodSandbox(pod('first')), undefined);
  assert.equal(plugin.removePodSandbox(pod('second')), { kind: 'removed', podUid: 'uid' });
  assert.is(plugin.removePodSandbox(pod('second')), undefined);
});

test('an agent that comes back warms the pods that have just started, each once', () => {
  const plugin = new Plugin('k8s.aliyun.com');
  plugin.synchronize([pod('old', { uid: 'old' }), pod('plain', { annotations: {} })]);
  plugin.runPodSandbox(pod('a1', { uid: 'a' }), 1000);
  plugin.runPodSandbox(pod('a2', { uid: 'a' }), 1001);
  const told = (nowMs: number): unknown =>
    plugin.snapshot(nowMs).map(({ podUid, sandboxId, warm }) => [podUid, sandboxId, warm]);
  assert.equal(told(2000), [
    ['old', 'old', false],
    ['a', 'a2', true],
  ]);
  assert.equal(told(1001 + WARM_WINDOW_MS), [
    ['old', 'old', false],
    ['a', 'a2', false],
  ]);
});

test('synchronize() replaces all pods; one that was known keeps its start', () => {
  const plugin = new Plugin('k8s.aliyun.com');
  plugin.runPodSandbox(pod('kept', { uid: 'kept' }), 1000);
  plugin.runPodSandbox(pod('gone', { uid: 'gone' }), 1000);
  plugin.synchronize([pod('kept', { uid: 'kept' })]);
  assert.equal(
    plugin.snapshot(1001).map(({ podUid, warm }) => [podUid, warm]),
    [['kept', true]],
  );
});

test('no more pods are remembered than allowed, and the oldest goes first', () => {
  const plugin = new Plugin('k8s.aliyun.com');
  for (let index = 0; index <= PODS_MAX; index++)
    plugin.runPodSandbox(pod(`${index}`, { uid: `${index}` }), 0);
  assert.is(plugin.podCount, PODS_MAX);
  assert.is(plugin.snapshot(0)[0]?.podUid, '1');
});

test('a container tells how its image came, by any of its names', () => {
  const plugin = new Plugin('k8s.aliyun.com');
  plugin.addResult(result);
  const wanted = { [RESULT]: '{"accelerated":true,"seconds":1.235,"bytes":{"origin":1,"peer":2,"cache":3}}' };
  assert.equal(plugin.createContainer(pod('s'), container(), now), wanted);
  const named = container({ annotations: {}, imageName: 'registry.test/app:1' });
  assert.equal(plugin.createContainer(pod('s'), named, now), wanted);
  assert.equal(plugin.createContainer(pod('s'), container({ annotations: {} }), now), {});
});

test('a container tells why its image was not accelerated, or that nothing is known', () => {
  const plugin = new Plugin('k8s.aliyun.com');
  const summary = (moment = now): unknown =>
    JSON.parse(plugin.createContainer(pod('s'), container(), moment)[RESULT] ?? '');
  assert.equal(summary(), { accelerated: false, reason: 'no-pull-seen' });
  assert.equal(summary({ ...now, isAgentConnected: false }), {
    accelerated: false,
    reason: 'agent-unreachable',
  });
  plugin.addResult({ ...result, accelerated: false, reason: 'registry-denied' });
  assert.equal(summary(), { accelerated: false, reason: 'registry-denied' });
});

test('a pod that says nothing shows its own accelerated pulls and no others', () => {
  const plugin = new Plugin('k8s.aliyun.com');
  const quiet = pod('s', { annotations: {} });
  assert.equal(plugin.createContainer(quiet, container(), now), {});
  plugin.addResult({ ...result, podUid: 'another' });
  assert.equal(plugin.createContainer(quiet, container(), now), {});
  plugin.addResult({ ...result, accelerated: false, reason: 'not-opted-in' });
  assert.equal(plugin.createContainer(quiet, container(), now), {});
  plugin.addResult({ ...result, endedAtMs: 950 });
  assert.ok(plugin.createContainer(quiet, container(), now)[RESULT]);
});

test('an annotation that another plugin has set is left alone', () => {
  const plugin = new Plugin('k8s.aliyun.com');
  const annotations = { ...container().annotations, [RESULT]: 'set' };
  assert.equal(plugin.createContainer(pod('s'), container({ annotations }), now), {});
});

test('the prefix decides which keys count', () => {
  const plugin = new Plugin('k8s.aliyun.com');
  plugin.setKeyPrefix('test.example');
  assert.is(plugin.runPodSandbox(pod('s'), 0), undefined);
  const own = pod('s', { annotations: { 'test.example/image-accelerate-mode': 'p2p' } });
  assert.ok(plugin.runPodSandbox(own, 0));
  assert.equal(Object.keys(plugin.createContainer(own, container(), now)), ['test.example/p2p-result']);
});

test.run();
