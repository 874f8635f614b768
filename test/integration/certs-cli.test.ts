import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readTlsFiles } from '../../shim/peer/tls-files.ts';

const SHOAL = resolve(import.meta.dirname, '../../shim/shoal');
const run = promisify(execFile);

async function inScratch(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-certs-'));
  try {
    await body(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function init(out: string, nodes: string): Promise<{ readonly stdout: string }> {
  return run(SHOAL, ['certs', 'init', '--nodes', nodes, '--out', out]);
}

const filesOf = (directory: string) => ({
  ca: join(directory, 'ca.crt'),
  cert: join(directory, 'tls.crt'),
  key: join(directory, 'tls.key'),
});

test('shoal certs init makes files that an agent takes, for addresses and names', async () => {
  await inScratch(async (directory) => {
    const out = join(directory, 'certs');
    const { stdout } = await init(out, '10.0.0.1,node-b=10.0.0.2+node-b.example');
    assert.match(stdout, 'tls: {ca:');
    await readTlsFiles(filesOf(join(out, '10.0.0.1')));
    const { cert, ca } = await readTlsFiles(filesOf(join(out, 'node-b')));
    const leaf = new X509Certificate(cert);
    assert.ok(leaf.verify(new X509Certificate(ca).publicKey));
    assert.is(leaf.checkIP('10.0.0.2'), '10.0.0.2');
    assert.is(leaf.checkHost('node-b.example'), 'node-b.example');
    assert.is(leaf.checkIP('10.0.0.1'), undefined);
    for (const path of ['ca.key', 'node-b/tls.key']) assert.is(statSync(join(out, path)).mode & 0o777, 0o600);
  });
});

test('shoal certs init signs further nodes with the authority that is there', async () => {
  await inScratch(async (directory) => {
    await init(directory, '10.0.0.1');
    const before = readFileSync(join(directory, 'ca.crt'), 'utf8');
    await init(directory, '10.0.0.2');
    assert.is(readFileSync(join(directory, 'ca.crt'), 'utf8'), before);
    assert.is(readFileSync(join(directory, '10.0.0.2/ca.crt'), 'utf8'), before);
    rmSync(join(directory, 'ca.key'));
    const failure = await init(directory, '10.0.0.3').catch((error) => error);
    assert.is(failure.code, 2);
    assert.match(failure.stderr, 'or neither');
  });
});

test('shoal certs init refuses what is no host, and writes nothing', async () => {
  await inScratch(async (directory) => {
    const out = join(directory, 'certs');
    for (const nodes of ['../escape', 'a=b=c+/', '']) {
      const failure = await init(out, nodes).catch((error) => error);
      assert.is(failure.code, 2, `"${nodes}" was accepted`);
    }
    assert.throws(() => statSync(out), /ENOENT/);
  });
});

test.run();
