import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { chooseEvictions } from '../../../shim/cache/eviction.ts';

const blob = (id: string, heldBytes: number, lastUsedMs: number, live = false) => ({
  id,
  heldBytes,
  lastUsedMs,
  live,
});

test('chooseEvictions() drops nothing that fits', () => {
  assert.equal(chooseEvictions([blob('a', 50, 1), blob('b', 50, 2)], 100), []);
});

test('chooseEvictions() drops the least recently used first, and no more than needed', () => {
  const blobs = [blob('new', 40, 9), blob('old', 40, 1), blob('middle', 40, 5)];
  assert.equal(chooseEvictions(blobs, 100), ['old']);
  assert.equal(chooseEvictions(blobs, 40), ['old', 'middle']);
  assert.equal(chooseEvictions(blobs, 0), ['old', 'middle', 'new']);
});

test('chooseEvictions() neither drops nor counts what a live pull needs', () => {
  assert.equal(chooseEvictions([blob('live', 1000, 1, true), blob('idle', 100, 2)], 100), []);
  assert.equal(chooseEvictions([blob('live', 1000, 1, true), blob('idle', 101, 2)], 100), ['idle']);
});

test('chooseEvictions() leaves blobs whose drop would free nothing', () => {
  assert.equal(chooseEvictions([blob('adopted', 0, 1), blob('own', 10, 2)], 5), ['own']);
});

test.run();
