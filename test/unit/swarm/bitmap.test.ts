import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bitmap } from '../../../shim/swarm/bitmap.ts';
import { countCommon, pickCommon } from '../../../shim/swarm/chunk-picker.ts';
import { Prng } from '../../../shim/swarm/prng.ts';

function bitmapOf(length: number, indexes: readonly number[]): Bitmap {
  const bitmap = new Bitmap(length);
  for (const index of indexes) bitmap.add(index);
  return bitmap;
}

test('Bitmap: survives the wire for every length around a word', () => {
  for (const length of [1, 7, 8, 31, 32, 33, 64, 100]) {
    for (const indexes of [[], [0], [length - 1], [0, length - 1]]) {
      const bitmap = bitmapOf(length, indexes);
      const copy = Bitmap.fromBytes(bitmap.toBytes(), length);
      assert.equal(copy?.toArray(), bitmap.toArray());
      assert.is(copy?.count, bitmap.count);
    }
    assert.ok(Bitmap.fromBytes(Bitmap.full(length).toBytes(), length)?.isFull);
  }
});

test('Bitmap.fromBytes() refuses a wrong size and bits past the end', () => {
  assert.is(Bitmap.fromBytes(new Uint8Array(2), 8), undefined);
  assert.is(Bitmap.fromBytes(new Uint8Array([0b100]), 2), undefined);
  assert.is(Bitmap.fromBytes(new Uint8Array([0, 0, 0, 0, 2]), 33), undefined);
});

test('Bitmap.firstMissing() and firstPresent() agree with a plain search', () => {
  const prng = new Prng(5);
  for (let round = 0; round < 200; round++) {
    const length = 1 + prng.below(100);
    const indexes = Array.from({ length }, (_, index) => index).filter(() => prng.chance(1, 2));
    const bitmap = bitmapOf(length, indexes);
    const from = prng.below(length);
    const to = from + prng.below(length - from + 1);
    const missing = Array.from({ length }, (_, index) => index).find(
      (index) => index >= from && !indexes.includes(index),
    );
    assert.is(bitmap.firstMissing(from), missing ?? length);
    const present = indexes.find((index) => index >= from && index < to);
    assert.is(bitmap.firstPresent(from, to), present);
  }
});

test('Bitmap.endOfMissing() is where a plain count ends', () => {
  const bitmap = bitmapOf(100, [0, 1, 5, 31, 32, 33, 64, 99]);
  for (const count of [1, 3, 29, 30, 60, 92, 200]) {
    let left = count;
    let end = 0;
    while (end < 100 && left > 0) if (!bitmap.has(end++)) left--;
    if (left > 0) end = 100;
    assert.is(bitmap.endOfMissing(count), end, `${count}`);
  }
});

test('Bitmap: indexes outside are never in the set and cannot be added', () => {
  const bitmap = Bitmap.full(10);
  assert.not.ok(bitmap.has(10));
  assert.not.ok(bitmap.has(-1));
  assert.not.ok(bitmap.add(10));
  assert.not.ok(bitmap.delete(-1));
  assert.is(bitmap.count, 10);
});

test('pickCommon() draws each common index of the range, and no other', () => {
  const left = bitmapOf(100, [1, 5, 31, 32, 33, 64, 99]);
  const right = bitmapOf(100, [5, 31, 33, 64, 70, 99]);
  const drawn = new Set<number | undefined>();
  const prng = new Prng(3);
  for (let round = 0; round < 200; round++) drawn.add(pickCommon(left, right, { from: 6, to: 99 }, prng));
  assert.equal([...drawn].sort(), [31, 33, 64]);
  assert.is(countCommon(left, right, 6, 99), 3);
  assert.is(pickCommon(left, right, { from: 65, to: 99 }, prng), undefined);
});

test.run();
