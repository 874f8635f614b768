import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import * as assert from 'uvu/assert';
import type { Compression } from '../../../shim/base/descriptor.ts';
import { digestOf } from '../../../shim/base/digest.ts';
import { type ErrorCode, ShoalError } from '../../../shim/base/errors.ts';
import type { UnpackJob, UnpackPool, UnpackRun } from '../../../shim/unpack/unpack-pool.ts';
import { archive } from './tar-builder.ts';

interface Given {
  readonly layer: Buffer;
  readonly tar: Buffer;
  readonly compression?: Compression;
}

/** Jobs with files of their own in one directory; `remove` deletes it. */
export function makeJobs() {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'shoal-unpack-'));
  const isRoot = process.getuid?.() === 0;
  let jobs = 0;
  const jobFor = (
    { layer, tar, compression = 'gzip' }: Given,
    changes: Partial<UnpackJob> = {},
  ): UnpackJob => {
    const name = path.join(directory, `${jobs++}`);
    fs.writeFileSync(`${name}.layer`, layer);
    fs.mkdirSync(name, { mode: 0o700 });
    return {
      sourcePath: `${name}.layer`,
      sizeBytes: layer.length,
      digest: digestOf(layer),
      diffId: digestOf(tar),
      compression,
      mode: 'overlay',
      targetDirectory: name,
      privileged: isRoot,
      unpackedBytesMax: 1e9,
      ...changes,
    };
  };
  const remove = (): void => {
    // Layers may hold directories that forbid their owner to look into them.
    if (!isRoot) spawnSync('chmod', ['-R', 'u+rwx', directory]);
    fs.rmSync(directory, { recursive: true });
  };
  return { directory, jobFor, remove };
}

/** Starts a job whose file is all there. */
export function startWhole(
  pool: UnpackPool,
  job: UnpackJob,
  signal = new AbortController().signal,
): UnpackRun {
  const run = pool.start(job, signal);
  run.advance(job.sizeBytes);
  return run;
}

export async function failure(result: Promise<unknown>, code: ErrorCode): Promise<ShoalError> {
  try {
    await result;
  } catch (error) {
    assert.instance(error, ShoalError);
    assert.is((error as ShoalError).code, code, String(error));
    return error as ShoalError;
  }
  throw new Error(`succeeded, ${code} wanted`);
}

const text = (length: number): string => 'The quick brown fox. '.repeat(length / 21 + 1).slice(0, length);

/** Three files, the largest of 3 MB; `assertFiles` knows them. */
export const tar = archive(
  { name: 'a/b.txt', data: 'hello', mode: 0o640 },
  { name: 'large', data: text(3_000_000) },
  { name: 'empty', data: '' },
);

export function assertFiles(root: string): void {
  assert.is(fs.readFileSync(path.join(root, 'a/b.txt'), 'utf8'), 'hello');
  assert.is(fs.readFileSync(path.join(root, 'large'), 'utf8'), text(3_000_000));
  assert.is(fs.statSync(path.join(root, 'a/b.txt')).mode & 0o7777, 0o640);
  assert.is(fs.statSync(path.join(root, 'large')).mtimeMs, 1_600_000_000_000);
}
