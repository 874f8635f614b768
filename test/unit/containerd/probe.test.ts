import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { describeSnapshotter, unpackerFor } from '../../../shim/containerd/probe.ts';

const ADDRESS = '/run/some-snapshotter/grpc.sock';

const plugin = (id: string, exports: Record<string, string>) => ({
  type: 'io.containerd.snapshotter.v1',
  id,
  exports,
  capabilities: [],
  initErr: null,
});
const builtIn = (id: string) =>
  plugin(id, { root: `/var/lib/containerd/io.containerd.snapshotter.v1.${id}` });
const proxied = (id: string) => plugin(id, { address: ADDRESS });
const unpacker = (each: ReturnType<typeof plugin>, visible = true) =>
  unpackerFor(describeSnapshotter(each, visible));

test('unpackerFor() has Shoal unpack for the built-in overlayfs alone, where it sees its directories', () => {
  assert.is(unpacker(builtIn('overlayfs')), 'shoal');
  assert.is(unpacker(builtIn('overlayfs'), false), 'containerd');
  assert.is(unpacker(proxied('overlayfs')), 'containerd');
  assert.is(unpackerFor(undefined), 'containerd');
});

for (const name of [
  'native',
  'erofs',
  'devmapper',
  'btrfs',
  'zfs',
  'blockfile',
  'windows-lcow',
  'of-tomorrow',
])
  test(`unpackerFor() leaves the trees of ${name} to containerd, whether it sees them or not`, () => {
    assert.is(unpacker(builtIn(name)), 'containerd');
    assert.is(unpacker(builtIn(name), false), 'containerd');
  });

test('unpackerFor() leaves the trees of a snapshotter of its own process to containerd', () => {
  for (const name of ['fuse-overlayfs', 'of-tomorrow']) assert.is(unpacker(proxied(name)), 'containerd');
});

for (const name of ['stargz', 'nydus', 'overlaybd', 'soci', 'cvmfs-snapshotter'])
  test(`unpackerFor() leaves the whole pull to ${name}, which mounts layers from elsewhere`, () => {
    assert.is(unpacker(proxied(name), false), 'snapshotter');
    assert.is(unpacker(builtIn(name)), 'snapshotter');
  });

test('unpackerFor() believes a snapshotter that calls itself remote, whatever its name', () => {
  const exports = { address: ADDRESS, enable_remote_snapshot_annotations: 'true' };
  assert.is(unpacker(plugin('of-tomorrow', exports), false), 'snapshotter');
  assert.is(unpacker(plugin('overlayfs', { ...exports, root: '/x' })), 'snapshotter');
});

test.run();
