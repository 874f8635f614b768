import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { KnownMembers } from '../../../shim/peer/known-members.ts';

const HOUR_MS = 3_600_000;

test('admits() lets members in for as long as they are members', () => {
  const known = new KnownMembers();
  known.set([{ peer: 'a:1', zone: '', names: ['node-a'] }]);
  assert.ok(known.admits('a:1', 0) && known.admits('a:1', 9 * HOUR_MS));
  assert.equal(known.namesOf('a:1'), ['node-a']);
  assert.equal(known.namesOf('b:1'), []);
});

test('admits() lets a stranger in for 90 s, and again when it has been away for an hour', () => {
  const known = new KnownMembers();
  assert.ok(known.admits('b:1', 0) && known.admits('b:1', 90_000));
  assert.not(known.admits('b:1', 90_001), 'a stranger that stays');
  assert.not(known.admits('b:1', HOUR_MS));
  assert.ok(known.admits('b:1', 2 * HOUR_MS + 1), 'its address may be a new node’s');
});

test('admits() gives a member that is none any more the same 90 s', () => {
  const known = new KnownMembers();
  known.set([{ peer: 'a:1', zone: '' }]);
  known.set([]);
  assert.ok(known.admits('a:1', 1000) && known.admits('a:1', 91_000));
  assert.not(known.admits('a:1', 91_001));
  known.set([{ peer: 'a:1', zone: '' }]);
  assert.ok(known.admits('a:1', 92_000));
});

test('admits() remembers a bounded number of strangers and refuses those above it', () => {
  const known = new KnownMembers();
  for (let index = 0; index < 4096; index++) assert.ok(known.admits(`s${index}:1`, 0));
  assert.not(known.admits('late:1', 1));
  assert.ok(known.admits('late:1', HOUR_MS + 1), 'the others are long gone');
});

test.run();
