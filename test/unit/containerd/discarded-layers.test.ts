import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { discardsUnpackedLayers } from '../../../shim/containerd/discarded-layers.ts';

const test = suite('discarded-layers', { root: '', file: '' });

test.before.each((context) => {
  context.root = mkdtempSync(join(tmpdir(), 'shoal-discarded-'));
  context.file = join(context.root, 'config.toml');
});
test.after.each((context) => rmSync(context.root, { recursive: true, force: true }));

for (const [version, section] of [
  [3, '[plugins."io.containerd.cri.v1.images"]'],
  [2, '[plugins."io.containerd.grpc.v1.cri".containerd]'],
  [1, '[plugins.cri.containerd]'],
])
  test(`discardsUnpackedLayers() reads a file of version ${version}`, async ({ file }) => {
    const write = (value: boolean) =>
      writeFileSync(file, `version = ${version}\n${section}\ndiscard_unpacked_layers = ${value}\n`);
    write(true);
    assert.is(await discardsUnpackedLayers(file), true);
    write(false);
    assert.is(await discardsUnpackedLayers(file), false);
  });

test('discardsUnpackedLayers() reads what the file imports', async ({ root, file }) => {
  writeFileSync(file, 'version = 3\nimports = ["more.toml"]\n');
  writeFileSync(
    join(root, 'more.toml'),
    '[plugins."io.containerd.cri.v1.images"]\ndiscard_unpacked_layers = true\n',
  );
  assert.is(await discardsUnpackedLayers(file), true);
});

test('discardsUnpackedLayers() is false without a file, and for one that cannot be read', async ({
  file,
}) => {
  assert.is(await discardsUnpackedLayers(file), false);
  writeFileSync(file, 'version = [');
  assert.is(await discardsUnpackedLayers(file), false);
});

test.run();
