import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { digestOf } from '../../../shim/base/digest.ts';
import type { ShoalError } from '../../../shim/base/errors.ts';
import { checkLayerFile } from '../../../shim/unpack/layer-digest.ts';

const signal = new AbortController().signal;
const directory = mkdtempSync(join(tmpdir(), 'shoal-layer-digest-'));
const path = join(directory, 'layer');
/** More than one read. */
const bytes = Buffer.alloc(3 * 1024 * 1024 + 7, 'layer');
writeFileSync(path, bytes);
test.after(() => rmSync(directory, { recursive: true }));

const failureOf = (work: Promise<void>): Promise<ShoalError> =>
  work.then(
    () => Promise.reject(new Error('it succeeded')),
    (error: ShoalError) => error,
  );

test('checkLayerFile() accepts the file that has the digest, and no other', async () => {
  await checkLayerFile(path, digestOf(bytes), signal);
  const error = await failureOf(checkLayerFile(path, digestOf('other'), signal));
  assert.is(error.code, 'DIGEST_MISMATCH');
  assert.equal(error.facts, { which: 'layer', found: digestOf(bytes), wanted: digestOf('other') });
});

test('checkLayerFile() of a file that is gone is UnpackFailed, and of a pull that was given up Cancelled', async () => {
  const gone = await failureOf(checkLayerFile(`${path}.gone`, digestOf(bytes), signal));
  assert.is(gone.code, 'UNPACK_FAILED');
  assert.is(gone.facts.errno, 'ENOENT');
  const given = await failureOf(checkLayerFile(path, digestOf(bytes), AbortSignal.abort()));
  assert.is(given.code, 'CANCELLED');
});

test.run();
