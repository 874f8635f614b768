import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import * as zlib from 'node:zlib';
import { pack } from 'tar-stream';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Digest } from '../../../shim/base/digest.ts';
import { createUnpackPool } from '../../../shim/unpack/create-unpack-pool.ts';

const test = suite('unpack pool');
const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'shoal-unpack-'));
test.after(() => fs.rmSync(directory, { recursive: true }));

function digest(bytes: Buffer): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest;
}

test('unpacks a gzip layer in a worker', async () => {
  const tar = pack();
  tar.entry({ name: 'a/b.txt', mode: 0o640, mtime: new Date(1_600_000_000_000) }, 'hello');
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  const tarBytes = Buffer.concat(chunks);
  const layer = zlib.gzipSync(tarBytes);
  const sourcePath = path.join(directory, 'layer');
  fs.writeFileSync(sourcePath, layer);
  const targetDirectory = path.join(directory, 'target');
  fs.mkdirSync(targetDirectory, { mode: 0o700 });
  const pool = createUnpackPool({ workersMax: 1 });
  const run = pool.start(
    {
      sourcePath,
      sizeBytes: layer.length,
      digest: digest(layer),
      diffId: digest(tarBytes),
      compression: 'gzip',
      mode: 'overlay',
      targetDirectory,
      privileged: process.getuid?.() === 0,
      unpackedBytesMax: 1e6,
    },
    new AbortController().signal,
  );
  run.advance(layer.length);
  assert.equal(await run.result, {
    unpackedBytes: 5,
    tarBytes: tarBytes.length,
    entries: 1,
    impliedDirectories: ['a'],
  });
  await pool.close();
  const file = path.join(targetDirectory, 'a/b.txt');
  assert.is(fs.readFileSync(file, 'utf8'), 'hello');
  assert.is(fs.statSync(file).mode & 0o7777, 0o640);
  assert.is(fs.statSync(file).mtimeMs, 1_600_000_000_000);
});

test.run();
