import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { digestOf } from '../../../shim/base/digest.ts';
import { isComplete } from '../../../shim/containerd/present-layers.ts';

const host = 'registry.test:5000';
const layer = { diffId: digestOf('tree') };
const query = { plan: { host }, keepLayers: true, unpacks: true };
const ours = { labels: { [`shoal.io/source.${host}`]: '1' } };
const unpacked = { labels: { ...ours.labels, 'containerd.io/uncompressed': layer.diffId } };
const bare = { labels: {} };

test('isComplete() wants blob and tree, and the blob proven to unpack to this tree', () => {
  assert.ok(isComplete(query, layer, unpacked, bare));
  assert.not(isComplete(query, layer, unpacked, undefined));
  assert.not(isComplete(query, layer, undefined, ours));
  assert.not(isComplete(query, layer, ours, bare));
  assert.not(isComplete(query, { diffId: digestOf('other') }, unpacked, bare));
});

test('isComplete() takes nothing that another host let us read', () => {
  const other = { ...query, plan: { host: 'evil.test' } };
  assert.not(isComplete(other, layer, unpacked, ours));
  assert.not(isComplete({ ...other, keepLayers: false }, layer, unpacked, ours));
  assert.not(isComplete({ ...other, unpacks: false }, layer, unpacked, undefined));
});

test('isComplete() needs the tree alone where blobs are discarded, the blob alone where containerd unpacks', () => {
  assert.ok(isComplete({ ...query, keepLayers: false }, layer, undefined, ours));
  assert.not(isComplete({ ...query, keepLayers: false }, layer, undefined, bare));
  assert.ok(isComplete({ ...query, unpacks: false }, layer, ours, undefined));
});

test.run();
