import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { takeCacheDirectory } from '../../../shim/agent/cache-directory.ts';
import { ErrorCode, type ShoalError } from '../../../shim/base/errors.ts';

let folder = '';
test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), 'shoal-cache-'));
});
test.after.each(() => rmSync(folder, { recursive: true, force: true }));

test('takeCacheDirectory() makes a directory that only its owner may read', async () => {
  const taken = await takeCacheDirectory(join(folder, 'a/cache'), false);
  assert.is(taken.path, join(folder, 'a/cache'));
  assert.is(statSync(taken.path).mode & 0o777, 0o700);
  await taken.close();
  assert.ok(existsSync(taken.path), 'it is kept for the next start');
});

test('takeCacheDirectory() refuses a second agent and names the setting', async () => {
  const path = join(folder, 'cache');
  const first = await takeCacheDirectory(path, false);
  const failure = await takeCacheDirectory(path, false).catch((error: ShoalError) => error);
  assert.is((failure as ShoalError).code, ErrorCode.CacheUnavailable);
  assert.match((failure as ShoalError).message, 'p2p.v2.cache.directory');
  await first.close();
  await (await takeCacheDirectory(path, false)).close();
});

test('takeCacheDirectory() gives a single pull beside an agent one of its own, and removes that', async () => {
  const path = join(folder, 'cache');
  const agent = await takeCacheDirectory(path, false);
  const single = await takeCacheDirectory(path, true);
  assert.is.not(single.path, path);
  assert.ok(existsSync(single.path));
  await single.close();
  assert.not(existsSync(single.path));
  await agent.close();
});

test('takeCacheDirectory() removes what single pulls left that died', async () => {
  const path = join(folder, 'cache');
  const dead = `${path}.once-1`;
  mkdirSync(dead);
  writeFileSync(join(dead, 'blob'), 'left');
  const agent = await takeCacheDirectory(path, false);
  assert.not(existsSync(dead));
  await agent.close();
});

test('takeCacheDirectory() leaves the one of a single pull that lives', async () => {
  const path = join(folder, 'cache');
  const before = await takeCacheDirectory(path, false);
  const single = await takeCacheDirectory(path, true);
  await before.close();
  const after = await takeCacheDirectory(path, false);
  assert.ok(existsSync(single.path));
  await single.close();
  await after.close();
});

test('takeCacheDirectory() says what is wrong with a path that is no directory', async () => {
  const path = join(folder, 'file');
  writeFileSync(path, '');
  const failure = await takeCacheDirectory(join(path, 'cache'), false).catch((error: ShoalError) => error);
  assert.is((failure as ShoalError).code, ErrorCode.CacheUnavailable);
  assert.match((failure as ShoalError).message, 'ENOTDIR');
});

test.run();
