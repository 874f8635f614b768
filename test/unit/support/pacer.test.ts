import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Pacer } from '../../support/real/pacer.ts';

test('Pacer spreads bytes evenly from the first call on', () => {
  const pacer = new Pacer(1_000);
  assert.equal(
    [100, 100, 50].map((bytes) => pacer.delayMs(bytes, 5_000)),
    [100, 200, 250],
  );
});

test('Pacer keeps its rate when it is asked late', () => {
  const pacer = new Pacer(1_000);
  pacer.delayMs(100, 0);
  assert.is(pacer.delayMs(100, 130), 70);
  assert.is(pacer.delayMs(10, 240), 0);
});

test('Pacer makes up for 100 ms of a pause and no more', () => {
  const pacer = new Pacer(1_000);
  pacer.delayMs(1, 0);
  assert.is(pacer.delayMs(100, 60_000), 0);
  assert.is(pacer.delayMs(10, 60_000), 10);
});

test.run();
