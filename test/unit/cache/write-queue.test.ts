import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { KeptReader } from '../../../shim/cache/kept-reader.ts';
import { WriteQueue } from '../../../shim/cache/write-queue.ts';
import { makeTemporaryRoot } from '../../support/real/temporary-root.ts';

async function withFile(run: (handle: FileHandle, path: string) => Promise<void>): Promise<void> {
  const root = makeTemporaryRoot('wq');
  const path = join(root.path, 'file');
  const handle = await open(path, 'w+');
  try {
    await run(handle, path);
  } finally {
    await handle.close();
    root.remove();
  }
}

async function content(handle: FileHandle, length: number): Promise<string> {
  const { buffer } = await handle.read(Buffer.alloc(length), 0, length, 0);
  return buffer.toString();
}

test('WriteQueue puts all bytes in their places, in whatever order they come', async () => {
  await withFile(async (handle) => {
    const queue = new WriteQueue();
    const places = [4, 0, 2, 6, 8, 1, 3, 5, 7, 9];
    await Promise.all(places.map((place) => queue.write(handle, place, [Buffer.from(String(place))])));
    assert.is(await content(handle, 10), '0123456789');
  });
});

test('WriteQueue lets no write overtake an earlier one of the same bytes', async () => {
  await withFile(async (handle) => {
    const queue = new WriteQueue();
    // The third continues the first, and has to wait for the second all the same.
    const writes = [
      queue.write(handle, 0, [Buffer.from('first')]),
      queue.write(handle, 10, [Buffer.from('ab')]),
      queue.write(handle, 14, [Buffer.from('OLD')]),
      queue.write(handle, 12, [Buffer.from('cdNEW')]),
    ];
    await queue.settled();
    await Promise.all(writes);
    assert.is((await content(handle, 17)).slice(10), 'abcdNEW');
  });
});

test('WriteQueue tells each writer of a failure, and goes on', async () => {
  await withFile(async (handle, path) => {
    const readOnly = await open(path, 'r');
    const queue = new WriteQueue();
    const failed = [0, 1].map((place) => queue.write(readOnly, place, [Buffer.from('x')]));
    for (const { status } of await Promise.allSettled(failed)) assert.is(status, 'rejected');
    await readOnly.close();
    await queue.write(handle, 0, [Buffer.from('y')]);
    assert.is(await content(handle, 1), 'y');
  });
});

test('KeptReader reads a file again after it grew, notices its end, and that it was removed', async () => {
  await withFile(async (handle, path) => {
    const reader = new KeptReader();
    const bytes = Buffer.alloc(4);
    await handle.write('abcd', 0);
    assert.ok(await reader.read(path, bytes, 0));
    assert.is(bytes.toString(), 'abcd');
    assert.is(await reader.read(path, bytes, 2), false);
    await handle.write('ef', 4);
    assert.ok(await reader.read(path, bytes, 2));
    assert.is(bytes.toString(), 'cdef');
    await rm(path);
    await reader.read(path, bytes, 0).then(
      () => assert.unreachable(),
      (error) => assert.is(error.code, 'ENOENT'),
    );
    await reader.close();
  });
});

test.run();
