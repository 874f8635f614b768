import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  CREDENTIALS_AGE_MAX_MS,
  CREDENTIALS_MAX,
  CredentialMemory,
} from '../../../shim/warm/credential-memory.ts';

const KAY = { username: 'kay', password: 'p' };

test('find() gives credentials for ten minutes, to their namespace and registry alone', () => {
  const memory = new CredentialMemory();
  memory.remember('team', 'r.test:5000', KAY, 0);
  assert.is(memory.find('team', 'r.test:5000', CREDENTIALS_AGE_MAX_MS - 1), KAY);
  assert.is(memory.find('other', 'r.test:5000', 0), undefined);
  assert.is(memory.find('team', 'r.test', 0), undefined);
  assert.is(memory.find('team', 'r.test:5000', CREDENTIALS_AGE_MAX_MS), undefined);
  assert.is(memory.size, 0, 'they are in memory no longer');
});

test('remember() replaces older ones and begins their time anew', () => {
  const memory = new CredentialMemory();
  const rotated = { ...KAY, password: 'q' };
  memory.remember('team', 'r.test', KAY, 0);
  memory.remember('team', 'r.test', rotated, 1000);
  assert.is(memory.find('team', 'r.test', CREDENTIALS_AGE_MAX_MS), rotated);
});

test('drop() forgets what a registry refused', () => {
  const memory = new CredentialMemory();
  memory.remember('team', 'r.test', KAY, 0);
  memory.drop('team', 'r.test');
  assert.is(memory.find('team', 'r.test', 0), undefined);
});

test('the oldest go beyond the bound, and all that are too old at expire()', () => {
  const memory = new CredentialMemory();
  for (let number = 0; number <= CREDENTIALS_MAX; number++)
    memory.remember(`n${number}`, 'r.test', KAY, number);
  assert.is(memory.size, CREDENTIALS_MAX);
  assert.is(memory.find('n0', 'r.test', CREDENTIALS_MAX), undefined);
  memory.expire(CREDENTIALS_AGE_MAX_MS + CREDENTIALS_MAX);
  assert.is(memory.size, 0);
});

test.run();
