import { chmodSync, lstatSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LowerTree } from '../../../shim/containerd/lower-tree.ts';
import { placeTree } from '../../../shim/containerd/place-tree.ts';
import { upperDirectoryOf } from '../../../shim/containerd/upper-directory.ts';

const root = mkdtempSync(join(tmpdir(), 'shoal-place-'));
test.after(() => rmSync(root, { recursive: true }));

test('upperDirectoryOf() reads a bind and an overlay mount', () => {
  const bind = { type: 'bind', source: '/s/1/fs', options: ['rw', 'rbind'] };
  assert.equal(upperDirectoryOf([bind]), { upper: '/s/1/fs', lowers: [] });
  const options = ['workdir=/s/3/work', 'upperdir=/s/3/fs', 'lowerdir=/s/2/fs:/s/1/fs', 'index=off'];
  const overlay = { type: 'overlay', source: 'overlay', options };
  assert.equal(upperDirectoryOf([overlay]), { upper: '/s/3/fs', lowers: ['/s/2/fs', '/s/1/fs'] });
});

test('upperDirectoryOf() refuses what it does not know', () => {
  const options = ['upperdir=/u', 'lowerdir=/l', 'userxattr'];
  const bad = [[], [{ type: 'ext4', source: '', options: [] }], [{ type: 'overlay', source: '', options }]];
  for (const mounts of bad) assert.throws(() => upperDirectoryOf(mounts), /Cannot use snapshot/);
});

test('LowerTree.find() keeps every link below the root and tells what hides lower layers', () => {
  const lower = join(root, 'lower');
  mkdirSync(join(lower, 'usr/lib'), { recursive: true });
  writeFileSync(join(lower, 'file'), '');
  symlinkSync('/usr/lib', join(lower, 'lib'));
  symlinkSync('../../../../usr', join(lower, 'up'));
  symlinkSync('loop', join(lower, 'loop'));
  const tree = new LowerTree(lower);
  const place = (path: string) => {
    const found = tree.find(path);
    return typeof found === 'string' ? found : found.path;
  };
  assert.is(place('lib'), join(lower, 'usr/lib'));
  assert.is(place('up/lib'), join(lower, 'usr/lib'));
  assert.is(place('usr/absent/x'), 'absent');
  for (const path of ['loop/x', 'file', 'file/x']) assert.is(place(path), 'hidden');
});

test('placeTree() takes modes of implied directories from below, and never through a link of the layer', async () => {
  const [staged, upper, lower, outside] = ['staged', 'upper', 'lower2', 'outside'].map((name) =>
    join(root, name),
  );
  if (!staged || !upper || !lower || !outside) throw new Error('four directories');
  for (const path of [`${staged}/a`, upper, `${lower}/a`, `${outside}/victim`])
    mkdirSync(path, { recursive: true, mode: 0o700 });
  mkdirSync(join(lower, 'a/b'), { recursive: true, mode: 0o711 });
  mkdirSync(join(staged, 'a/b'));
  writeFileSync(join(staged, 'a/b/file'), '');
  symlinkSync(outside, join(staged, 'link'));
  mkdirSync(join(lower, 'link/victim'), { recursive: true });
  chmodSync(join(lower, 'link/victim'), 0o777);
  await placeTree(
    { directory: staged, impliedDirectories: ['a', 'a/b', 'link', 'link/victim'] },
    { upper, lowers: [lower] },
  );
  assert.is(lstatSync(join(upper, 'a/b')).mode & 0o7777, 0o711);
  assert.is(lstatSync(join(upper, 'a')).mode & 0o7777, 0o700);
  assert.is(lstatSync(join(outside, 'victim')).mode & 0o7777, 0o700);
});

test.run();
