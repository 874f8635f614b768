import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { digestOf } from '../../../shim/base/digest.ts';
import { addAttempts, NO_BYTES, PullProgress } from '../../../shim/pull/progress.ts';

const layers = [
  { digest: digestOf('a'), sizeBytes: 10 },
  { digest: digestOf('b'), sizeBytes: 20 },
];

test('PullProgress sums what its layers got, and gives copies', () => {
  const progress = new PullProgress('host/app:v1');
  assert.equal(progress.snapshot(), {
    reference: 'host/app:v1',
    digest: undefined,
    layers: [],
    counts: NO_BYTES,
  });
  progress.begin(digestOf('manifest'), layers);
  progress.update(0, { phase: 'present' });
  progress.update(1, { phase: 'fetching', fetchedBytes: 5, counts: { ...NO_BYTES, peerBytes: 5 } });
  const before = progress.snapshot();
  progress.update(1, { fetchedBytes: 20, counts: { originBytes: 10, peerBytes: 10, cacheBytes: 0 } });
  assert.equal(before.counts, { originBytes: 0, peerBytes: 5, cacheBytes: 0 });
  assert.is(before.layers[1]?.fetchedBytes, 5);
  assert.equal(progress.snapshot().counts, { originBytes: 10, peerBytes: 10, cacheBytes: 0 });
});

test('PullProgress ignores layers that the image does not have', () => {
  const progress = new PullProgress('host/app:v1');
  progress.begin(digestOf('manifest'), layers);
  progress.update(2, { phase: 'done' });
  assert.is(progress.snapshot().layers.length, 2);
});

test('follow() shows the layers of another until told otherwise', () => {
  const [progress, other] = [new PullProgress('host/app:v1'), new PullProgress('host/app:v1')];
  for (const each of [progress, other]) each.begin(digestOf('manifest'), layers);
  other.update(0, { phase: 'fetching', fetchedBytes: 3 });
  progress.follow(other);
  assert.is(progress.snapshot().layers[0]?.fetchedBytes, 3);
  progress.follow(undefined);
  assert.is(progress.snapshot().layers[0]?.fetchedBytes, 0);
});

test('addAttempts() counts bytes once, where they came from first', () => {
  const counts = (originBytes: number, peerBytes: number, cacheBytes: number) => ({
    originBytes,
    peerBytes,
    cacheBytes,
  });
  assert.equal(addAttempts([]), NO_BYTES);
  assert.equal(addAttempts([counts(60, 0, 0), counts(30, 10, 60)]), counts(90, 10, 0));
  assert.equal(addAttempts([counts(100, 0, 0), NO_BYTES]), counts(100, 0, 0));
  assert.equal(addAttempts([counts(50, 0, 50), NO_BYTES]), counts(50, 0, 50));
  assert.equal(addAttempts([counts(0, 0, 0), counts(20, 0, 80)]), counts(20, 0, 80));
  const attempts = [counts(60, 0, 5), counts(10, 10, 65), counts(5, 0, 90)];
  const [first, ...others] = attempts;
  const oneByOne = others.reduce((sum, next) => addAttempts([sum, next]), first ?? NO_BYTES);
  assert.equal(addAttempts(attempts), oneByOne, 'sums can be summed up');
});

test.run();
