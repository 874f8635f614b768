import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RateGate } from '../../../shim/peer/rate-gate.ts';
import { Turnstile } from '../../../shim/peer/turnstile.ts';

test('RateGate lets pass what its rate allows, in order', async () => {
  const gate = new RateGate(10e6);
  const order: number[] = [];
  const startMs = performance.now();
  await Promise.all(
    Array.from({ length: 30 }, async (_, index) => {
      await gate.take(500_000);
      order.push(index);
    }),
  );
  const seconds = (performance.now() - startMs) / 1000;
  // 15 MB less the burst of 1 MB.
  assert.ok(seconds > 1.3 && seconds < 1.7, `${seconds} s`);
  assert.equal(
    order,
    [...order].sort((a, b) => a - b),
  );
});

test('RateGate without a rate never waits, and close() lets everybody go', async () => {
  assert.is(new RateGate(0).take(1e12), undefined);
  const gate = new RateGate(1);
  gate.take(1);
  const waiting = gate.take(1e9);
  gate.close();
  await waiting;
});

test('Turnstile admits its number, in order, and forgets who gave up', async () => {
  const turnstile = new Turnstile(1);
  const { signal } = new AbortController();
  const leave = await turnstile.enter(signal);
  const gone = new AbortController();
  const givenUp = turnstile.enter(gone.signal).catch((error) => error.code);
  const second = turnstile.enter(signal);
  gone.abort();
  assert.is(await givenUp, 'CANCELLED');
  leave();
  leave();
  const leaveSecond = await second;
  leaveSecond();
  (await turnstile.enter(signal))();
});

test.run();
