import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { refuseImageVerifiers, verifierDirectories } from '../../../shim/containerd/image-verifiers.ts';

const DEFAULT = '/opt/containerd/image-verifier/bin';
const test = suite('image-verifiers', { root: '', file: '' });

test.before.each((context) => {
  context.root = mkdtempSync(join(tmpdir(), 'shoal-verifiers-'));
  context.file = join(context.root, 'config.toml');
});
test.after.each((context) => rmSync(context.root, { recursive: true, force: true }));

const bindir = (directory: string) =>
  `[plugins."io.containerd.image-verifier.v1.bindir"]\nbin_dir = "${directory}"\nmax_verifiers = 3\n`;

test('verifierDirectories() is the default where there is no file or none is named', async ({ file }) => {
  assert.equal(await verifierDirectories(file), [DEFAULT]);
  writeFileSync(file, 'version = 3\nroot = "/x"\n[plugins."io.containerd.cri.v1.images"]\n');
  assert.equal(await verifierDirectories(file), [DEFAULT]);
});

for (const version of [2, 3, 4])
  test(`verifierDirectories() reads a file of version ${version}`, async ({ file }) => {
    writeFileSync(file, `version = ${version}\n${bindir('/a')}`);
    assert.equal(await verifierDirectories(file), ['/a']);
  });

test('verifierDirectories() reads a file of version 1, which names plugins in short', async ({ file }) => {
  writeFileSync(file, 'version = 1\n[plugins.bindir]\nbin_dir = "/a"\n');
  assert.equal(await verifierDirectories(file), ['/a']);
});

test('verifierDirectories() follows imports: relative, absolute, patterns, files that import each other', async ({
  root,
  file,
}) => {
  const folder = join(root, 'more');
  mkdirSync(folder);
  writeFileSync(
    file,
    `version = 3\nimports = ["one.toml", "${folder}/*.toml", "absent.toml", 7]\n${bindir('/main')}`,
  );
  writeFileSync(join(root, 'one.toml'), `imports = ["config.toml", "more/a.toml"]\n${bindir('/one')}`);
  writeFileSync(join(folder, 'a.toml'), bindir('/a'));
  writeFileSync(join(folder, 'b.toml'), bindir('/b'));
  writeFileSync(join(folder, 'c.txt'), bindir('/c'));
  assert.equal([...(await verifierDirectories(file))].sort(), ['/a', '/b', '/main', '/one']);
});

test('verifierDirectories() reads conf.d beside a file that imports nothing', async ({ root, file }) => {
  mkdirSync(join(root, 'conf.d'));
  writeFileSync(join(root, 'conf.d', 'x.toml'), bindir('/x'));
  assert.equal(await verifierDirectories(file), ['/x']);
  writeFileSync(file, 'imports = []');
  assert.equal(await verifierDirectories(file), [DEFAULT]);
});

test('refuseImageVerifiers() refuses while there is a program, and no longer', async ({ root, file }) => {
  const directory = join(root, 'bin');
  writeFileSync(file, bindir(directory));
  await refuseImageVerifiers(file);
  mkdirSync(directory);
  await refuseImageVerifiers(file);
  writeFileSync(join(directory, 'verify'), '', { mode: 0o755 });
  assert.match((await refusalOf(file)).message, /containerd has 1 image verifier\(s\) in ".*bin"/);
  rmSync(join(directory, 'verify'));
  await refuseImageVerifiers(file);
});

test('refuseImageVerifiers() takes what it cannot read for a verifier', async ({ root, file }) => {
  writeFileSync(file, 'version = [');
  assert.match((await refusalOf(file)).message, /no valid TOML/);
  writeFileSync(file, bindir(file));
  assert.match((await refusalOf(file)).message, /cannot be read \(ENOTDIR\)/);
  writeFileSync(file, `imports = ["${root}"]`);
  assert.match((await refusalOf(file)).message, /cannot be read \(EISDIR\)/);
});

test('refuseImageVerifiers() refuses a configuration that imports without end', async ({ root, file }) => {
  for (let index = 0; index < 300; index++) writeFileSync(join(root, `${index}.toml`), '');
  writeFileSync(file, 'imports = ["*.toml"]');
  assert.match((await refusalOf(file)).message, /imports more than 256 files/);
});

test.run();

async function refusalOf(file: string): Promise<{ code: string; message: string }> {
  const error = await refuseImageVerifiers(file).then(
    () => undefined,
    (reason: unknown) => reason as { code: string; message: string },
  );
  assert.is(error?.code, 'UNSUPPORTED');
  return error as { code: string; message: string };
}
