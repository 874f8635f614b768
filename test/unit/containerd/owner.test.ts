import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isDead, lockPath, Owner, ownerOf } from '../../../shim/containerd/owner.ts';

const directory = mkdtempSync(join(tmpdir(), 'shoal-owner-'));
test.after(() => rmSync(directory, { recursive: true }));

test('an owner lives until it is released, also for its own process', async () => {
  const owner = Owner.claim(directory);
  assert.is(isDead(directory, owner.id), false);
  await owner.release();
  assert.is(existsSync(lockPath(directory, owner.id)), false);
  assert.is(isDead(directory, owner.id), true);
});

test('nobody can tell whether an owner without a lock lives', () => {
  assert.is(isDead(directory, Owner.claim(undefined).id), undefined);
  assert.is(isDead(undefined, 'L0123456789abcdef'), undefined);
});

test('ownerOf() finds the owner in every kind of name, and none in those of others', () => {
  const id = 'L0123456789abcdef';
  for (const name of [`shoal-${id}-3-0`, `shoal-${id}-3-layer-1`, `extract-shoal-${id}-3-u sha256:00`])
    assert.is(ownerOf(name), id);
  for (const name of ['extract-123-abc sha256:00', 'layer-sha256:00', 'shoal-', `shoal-${id}`])
    assert.is(ownerOf(name), undefined);
});

test.run();
