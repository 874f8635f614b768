import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readBoundPod } from '../../../shim/kubernetes/bound-pod.ts';

const PREFIX = 'k8s.aliyun.com';
const metadata = { uid: 'uid', namespace: 'team', name: 'app' };
const read = (pod: object) => readBoundPod({ metadata, ...pod }, PREFIX);

test('readBoundPod() gives images in the order of their pulls, each once, without those that are never pulled', () => {
  const pod = read({
    spec: {
      containers: [{ image: 'b:1' }, { image: 'never:1', imagePullPolicy: 'Never' }, { image: 'a:1' }],
      initContainers: [{ image: 'a:1', imagePullPolicy: 'Always' }],
      ephemeralContainers: [{ image: 'c:1' }],
      imagePullSecrets: [{ name: 'pull' }, {}],
    },
  });
  assert.equal(pod?.images, ['a:1', 'b:1', 'c:1']);
  assert.equal(pod?.secrets, ['pull']);
});

test('readBoundPod() keeps labels and annotations under the key prefix alone', () => {
  const labels = { [`${PREFIX}/image-accelerate-mode`]: 'p2p', app: 'x', [`${PREFIX}.evil/a`]: 'y' };
  const pod = readBoundPod({ metadata: { ...metadata, labels, annotations: labels } }, PREFIX);
  assert.equal(pod?.labels, { [`${PREFIX}/image-accelerate-mode`]: 'p2p' });
  assert.equal(pod?.annotations, pod?.labels);
});

test('readBoundPod() tells a pod that waits from one that runs, ends or leaves', () => {
  const state = (phase: string, deletionTimestamp?: string) => {
    const pod = readBoundPod(
      { metadata: { ...metadata, ...(deletionTimestamp && { deletionTimestamp }) }, status: { phase } },
      PREFIX,
    );
    return [pod?.isWaiting, pod?.isOver];
  };
  assert.equal(state('Pending'), [true, false]);
  assert.equal(state('Running'), [false, false]);
  assert.equal(state('Succeeded'), [false, true]);
  assert.equal(state('Failed'), [false, true]);
  assert.equal(state('Pending', '2026-01-01T00:00:00Z'), [false, true]);
});

test('readBoundPod() names a static pod as kubelet does', () => {
  const annotations = { 'kubernetes.io/config.hash': 'of-the-manifest' };
  assert.is(readBoundPod({ metadata: { ...metadata, annotations } }, PREFIX)?.podUid, 'of-the-manifest');
});

test('readBoundPod() takes anything', () => {
  for (const pod of [undefined, null, 1, 'pod', [], {}, { metadata: { uid: 'x' } }])
    assert.is(readBoundPod(pod, PREFIX), undefined);
  assert.equal(read({ spec: { containers: 'none', initContainers: [null, 1] } })?.images, []);
});

test.run();
