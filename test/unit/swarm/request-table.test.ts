import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { swarmLimits } from '../../../shim/swarm/limits.ts';
import { RequestTable } from '../../../shim/swarm/request-table.ts';

const limits = swarmLimits();

/** Chunks that arrive `gapMs` after each other, each `tookMs` after it was asked for. Gives when the last came, ms. */
function arrive(
  table: RequestTable,
  count: number,
  { gapMs, tookMs }: Record<'gapMs' | 'tookMs', number>,
  fromMs = 0,
) {
  for (let index = 1; index <= count; index++) table.recordArrival(tookMs, fromMs + index * gapMs);
  return fromMs + count * gapMs;
}

test('chunks that were asked for together, and so come together, are no reason to ask for more', () => {
  const table = new RequestTable(limits);
  arrive(table, 4, { gapMs: 2, tookMs: 600 });
  assert.is(table.target, limits.requestsStart);
});

test('as many are asked for as come while an answer is on its way', () => {
  const table = new RequestTable(limits);
  arrive(table, 100, { gapMs: 2, tookMs: 8 });
  assert.is(table.target, limits.requestsAheadMs / 2);
  table.recordBegun(20);
  assert.is(table.target, limits.requestsAheadMs / 2 + 20);
});

test('a rest between two pulls is forgotten', () => {
  const table = new RequestTable(limits);
  const nowMs = arrive(table, 100, { gapMs: 2, tookMs: 8 });
  arrive(table, 4, { gapMs: 2, tookMs: 8 }, nowMs + 3_600_000);
  assert.ok(table.target > limits.requestsAheadMs / 3, `${table.target}`);
});

test.run();
