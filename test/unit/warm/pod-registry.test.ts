import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type ListedPod, POD_AGE_MAX_MS, PODS_MAX, PodRegistry } from '../../../shim/warm/pod-registry.ts';

test('listing() gives the pods that run an image, each once, the latest last', () => {
  const pods = new PodRegistry();
  pods.note('watch', pod('a', ['x']), 0);
  pods.note('runtime', pod('b', ['x', 'y']), 0);
  pods.note('runtime', pod('a', ['x'], 'from-runtime'), 0);
  assert.equal(
    pods.listing('x').map(({ podUid, sandboxId }) => [podUid, sandboxId]),
    [
      ['a', 'from-runtime'],
      ['b', undefined],
    ],
  );
  assert.equal(pods.listing('z'), []);
});

test('remove() keeps a pod that another source knows, or that has a later sandbox', () => {
  const pods = new PodRegistry();
  pods.note('watch', pod('a', ['x']), 0);
  pods.note('runtime', pod('a', ['x'], 'second'), 0);
  assert.not(pods.remove('runtime', 'a', 'first'), 'kubelet removes the sandbox that it has replaced');
  assert.ok(pods.listing('x')[0]?.sandboxId === 'second');
  assert.not(pods.remove('runtime', 'a', 'second'), 'the watch still has it');
  assert.ok(pods.remove('watch', 'a'));
  assert.is(pods.size, 0);
});

test('sync() replaces what one source has told, and names those that nobody knows any more', () => {
  const pods = new PodRegistry();
  pods.note('watch', pod('w', []), 0);
  for (const uid of ['a', 'b', 'w']) pods.note('runtime', pod(uid, []), 0);
  assert.equal(pods.sync('runtime', [pod('b', []), pod('c', [])], 0), ['a']);
  assert.is(pods.size, 3);
});

test('note() forgets the oldest beyond the bounds of count and age', () => {
  const pods = new PodRegistry();
  for (let number = 0; number < PODS_MAX; number++) pods.note('runtime', pod(`${number}`, []), number);
  assert.equal(pods.note('runtime', pod('next', []), PODS_MAX), ['0']);
  assert.is(pods.size, PODS_MAX);
  const forgotten = pods.note('runtime', pod('late', []), POD_AGE_MAX_MS + 11);
  assert.equal(forgotten, ['1', '2', '3', '4', '5', '6', '7', '8', '9', '10']);
});

test.run();

function pod(podUid: string, images: readonly string[], sandboxId?: string): ListedPod {
  return {
    podUid,
    namespace: 'default',
    name: podUid,
    ...(sandboxId !== undefined && { sandboxId }),
    labels: {},
    annotations: {},
    images,
  };
}
