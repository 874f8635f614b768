import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TrafficMeter, windowSeconds } from '../../../shim/observe/traffic-meter.ts';

const start = 1_000_000;

test('TrafficMeter tells rates over its window and bytes since the start', () => {
  const meter = new TrafficMeter();
  for (let second = 0; second < windowSeconds; second++)
    meter.record(1000, 10 + second, start + second * 1000);
  const now = start + (windowSeconds - 1) * 1000;
  assert.equal(meter.read(now), {
    bytesPerSecond: 1000,
    operationsPerSecond: 1,
    latencyUsMax: 19,
    bytes: 10_000,
  });
  assert.equal(meter.read(now + 5000), {
    bytesPerSecond: 500,
    operationsPerSecond: 0.5,
    latencyUsMax: 19,
    bytes: 10_000,
  });
  assert.equal(meter.read(now + 60_000), {
    bytesPerSecond: 0,
    operationsPerSecond: 0,
    latencyUsMax: 0,
    bytes: 10_000,
  });
});

test('TrafficMeter counts a failed request without bytes', () => {
  const meter = new TrafficMeter();
  meter.record(-5, 7, start);
  assert.equal(meter.read(start), { bytesPerSecond: 0, operationsPerSecond: 0.1, latencyUsMax: 7, bytes: 0 });
});

test('TrafficMeter takes the growth of totals that somebody else counts, each byte once', () => {
  const meter = new TrafficMeter();
  meter.recordTotals({ bytes: 100, operations: 1 }, start);
  meter.recordTotals({ bytes: 100, operations: 1 }, start + 1000);
  meter.recordTotals({ bytes: 300, operations: 2 }, start + 2000);
  assert.equal(meter.read(start + 2000), {
    bytesPerSecond: 30,
    operationsPerSecond: 0.2,
    latencyUsMax: 0,
    bytes: 300,
  });
});

test.run();
