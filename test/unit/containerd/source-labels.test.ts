import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isFromHost, sourceLabels } from '../../../shim/containerd/source-labels.ts';

const OFFICIAL = 'containerd.io/distribution.source.registry.test';

test('sourceLabels() adds the repository to the list of the host without its port', () => {
  const labels = sourceLabels({ host: 'registry.test:5000', repository: 'b' }, { [OFFICIAL]: 'a,c' });
  assert.equal(labels, { [OFFICIAL]: 'a,b,c', 'shoal.io/source.registry.test:5000': '1' });
});

test('sourceLabels() leaves a list alone that names the repository or would grow too long', () => {
  const key = (existing: string) =>
    sourceLabels({ host: 'registry.test', repository: 'a' }, { [OFFICIAL]: existing })[OFFICIAL];
  assert.is(key('a,b'), 'a,b');
  const long = Array.from({ length: 600 }, (_, index) => `repo${index}`).join(',');
  assert.is(key(long.slice(0, 4049)), long.slice(0, 4049));
});

test('isFromHost() takes the label without port only for a host without port', () => {
  const labels = { [OFFICIAL]: 'a' };
  assert.ok(isFromHost(labels, 'registry.test'));
  assert.not(isFromHost(labels, 'registry.test:5000'));
  assert.not(isFromHost(labels, 'other.test'));
  assert.not(isFromHost({ [OFFICIAL]: '' }, 'registry.test'));
  assert.ok(isFromHost(sourceLabels({ host: '[::1]:5000', repository: 'a' }, {}), '[::1]:5000'));
  assert.not(isFromHost(sourceLabels({ host: '[::1]:5000', repository: 'a' }, {}), '[::1]:5001'));
});

test.run();
