import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  chooseEvictions,
  type EvictionCandidate,
  IN_DEMAND_CAPACITY_FACTOR,
  IN_DEMAND_MS,
} from '../../../shim/cache/eviction.ts';

const NOW_MS = 1_000_000;

const blob = (
  id: string,
  heldBytes: number,
  lastUsedMs: number,
  more: Partial<EvictionCandidate> = {},
): EvictionCandidate => ({
  id,
  heldBytes,
  freesBytes: heldBytes,
  lastUsedMs,
  lastServedMs: Number.NEGATIVE_INFINITY,
  live: false,
  ...more,
});

const inDemand = (id: string, heldBytes: number, servedMsAgo = 0) =>
  blob(id, heldBytes, NOW_MS - servedMsAgo, { lastServedMs: NOW_MS - servedMsAgo });

const forSize = (blobs: readonly EvictionCandidate[], capacityBytes: number) =>
  chooseEvictions(blobs, { nowMs: NOW_MS, capacityBytes });

const forDisk = (blobs: readonly EvictionCandidate[], overHighBytes: number, overLowBytes: number) =>
  chooseEvictions(blobs, { nowMs: NOW_MS, capacityBytes: 1000, excess: { overHighBytes, overLowBytes } });

test('chooseEvictions() drops nothing that fits', () => {
  assert.equal(forSize([blob('a', 50, 1), blob('b', 50, 2)], 100), []);
});

test('chooseEvictions() drops the least recently used first, and no more than needed', () => {
  const blobs = [blob('new', 40, 9), blob('old', 40, 1), blob('middle', 40, 5)];
  assert.equal(forSize(blobs, 100), ['old']);
  assert.equal(forSize(blobs, 40), ['old', 'middle']);
  assert.equal(forSize(blobs, 0), ['old', 'middle', 'new']);
});

test('chooseEvictions() neither drops nor counts what a live pull needs', () => {
  assert.equal(forSize([blob('live', 1000, 1, { live: true }), blob('idle', 100, 2)], 100), []);
  assert.equal(forSize([blob('live', 1000, 1, { live: true }), blob('idle', 101, 2)], 100), ['idle']);
});

test('chooseEvictions() leaves blobs whose drop would free nothing', () => {
  assert.equal(forSize([blob('adopted', 0, 1), blob('own', 10, 2)], 5), ['own']);
});

test('chooseEvictions() drops blobs in demand after all others, however long ago this node used them', () => {
  const served = blob('served', 60, 1, { lastServedMs: NOW_MS - 1 });
  assert.equal(forSize([served, blob('idle', 60, 9)], 100), ['idle']);
  assert.equal(forSize([served, blob('idle', 60, 9)], 0), ['idle', 'served']);
});

test('chooseEvictions() lets blobs in demand exceed the capacity, up to a multiple of it', () => {
  const capacityBytes = 100;
  const fits = [inDemand('a', 100, 2), inDemand('b', 100 * (IN_DEMAND_CAPACITY_FACTOR - 1), 1)];
  assert.equal(forSize(fits, capacityBytes), []);
  assert.equal(forSize([...fits, inDemand('c', 1)], capacityBytes), ['a']);
});

test('chooseEvictions() takes a blob out of demand when nobody has asked for it for a while', () => {
  assert.equal(forSize([inDemand('a', 101, IN_DEMAND_MS - 1)], 100), []);
  assert.equal(forSize([inDemand('a', 101, IN_DEMAND_MS)], 100), ['a']);
});

test('chooseEvictions() frees the file system down to low water, least recently used first', () => {
  const blobs = [blob('new', 40, 9), blob('old', 40, 1), blob('middle', 40, 5)];
  assert.equal(forDisk(blobs, 1, 40), ['old']);
  assert.equal(forDisk(blobs, 1, 41), ['old', 'middle']);
  assert.equal(forDisk(blobs, 500, 600), ['old', 'middle', 'new']);
});

test('chooseEvictions() counts what was dropped for its size towards low water', () => {
  const blobs = [blob('old', 600, 1), blob('middle', 500, 5), blob('new', 400, 9)];
  assert.equal(forDisk(blobs, 1, 600), ['old']);
});

test('chooseEvictions() drops blobs in demand only until the file system is at high water', () => {
  const blobs = [blob('idle', 10, 1), inDemand('a', 40, 2), inDemand('b', 40, 1)];
  assert.equal(forDisk(blobs, 10, 100), ['idle']);
  assert.equal(forDisk(blobs, 11, 100), ['idle', 'a']);
});

test('chooseEvictions() never drops what a live pull needs, however full the file system is', () => {
  assert.equal(forDisk([blob('live', 100, 1, { live: true })], 1000, 2000), []);
});

test('chooseEvictions() spares files with another name: their room would not come back', () => {
  const blobs = [blob('linked', 40, 1, { freesBytes: 0 }), blob('own', 40, 5)];
  assert.equal(forDisk(blobs, 1, 40), ['own']);
});

test.run();
