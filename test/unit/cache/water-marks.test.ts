import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { excessOf, usedRatioOf } from '../../../shim/cache/water-marks.ts';

const marks = { highPercent: 80, lowPercent: 75 };
const usage = (usedBytes: number) => ({ sizeBytes: 1000, availableBytes: 1000 - usedBytes });

test('excessOf() is undefined up to high water', () => {
  assert.is(excessOf(usage(0), marks), undefined);
  assert.is(excessOf(usage(760), marks), undefined);
  assert.is(excessOf(usage(800), marks), undefined);
});

test('excessOf() tells how far both marks are exceeded above high water', () => {
  assert.equal(excessOf(usage(801), marks), { overHighBytes: 1, overLowBytes: 51 });
  assert.equal(excessOf(usage(1000), marks), { overHighBytes: 200, overLowBytes: 250 });
});

test('excessOf() never finds 100 % exceeded', () => {
  assert.is(excessOf(usage(1000), { highPercent: 100, lowPercent: 100 }), undefined);
});

test('usedRatioOf() is the share that nobody but root could still have', () => {
  assert.is(usedRatioOf(usage(800)), 0.8);
  assert.is(usedRatioOf({ sizeBytes: 0, availableBytes: 0 }), 0);
});

test.run();
