import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { criSetupOf } from '../../../shim/containerd/cri-setup.ts';

const config = (containerd: object) => JSON.stringify({ containerd });

test('criSetupOf() reads what 1.7 tells', () => {
  const setup = criSetupOf(config({ snapshotter: 'native', discardUnpackedLayers: true, runtimes: {} }), [
    'overlayfs',
  ]);
  assert.equal([setup.snapshotterOf(undefined), setup.discardUnpackedLayers], ['native', true]);
});

test('criSetupOf() takes the one snapshotter that holds images where 2.x tells none', () => {
  const setup = criSetupOf(config({ runtimes: { runc: { snapshotter: '' } } }), ['overlayfs']);
  assert.equal([setup.snapshotterOf(undefined), setup.snapshotterOf('runc')], ['overlayfs', 'overlayfs']);
  assert.is(setup.discardUnpackedLayers, undefined);
});

test('criSetupOf() decides by runtime handler, and not at all when it is not certain', () => {
  const runtimes = { kata: { snapshotter: 'devmapper' }, runc: { snapshotter: '' } };
  const setup = criSetupOf(config({ runtimes }), ['devmapper', 'overlayfs']);
  assert.is(setup.snapshotterOf('kata'), 'devmapper');
  assert.is(setup.snapshotterOf(undefined), 'overlayfs');
  assert.is(setup.snapshotterOf('runc'), undefined);
  assert.is(criSetupOf(config({ runtimes: {} }), ['a', 'b']).snapshotterOf(undefined), undefined);
});

test('criSetupOf() knows nothing from a document that it cannot read', () => {
  for (const text of [
    undefined,
    '',
    'null',
    '[]',
    '{"containerd":7}',
    '{"containerd":{"runtimes":[1,null]}}',
  ])
    assert.is(criSetupOf(text, []).snapshotterOf('runc'), undefined);
});

test.run();
