import { parseArgs } from 'node:util';
import { measure } from './measure.ts';
import { World } from './world.ts';

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '100' },
    'size-mb': { type: 'string', default: '500' },
    blobs: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    'link-mb': { type: 'string', default: '125' },
    'origin-links': { type: 'string', default: '8' },
    'origin-mb': { type: 'string' },
    'latency-ms': { type: 'string', default: '1' },
    'spread-ms': { type: 'string', default: '1000' },
    json: { type: 'boolean', default: false },
    limits: { type: 'string', default: '{}' },
    verbose: { type: 'boolean', default: false },
  },
});

const MB = 1_000_000;
const blobCount = Number(values.blobs);
const sizeBytes = Number(values['size-mb']) * MB;
const linkBytesPerSecond = Number(values['link-mb']) * MB;
const originMb = values['origin-mb'];
const startedMs = performance.now();
const world = new World({
  nodes: Number(values.nodes),
  blobSizesBytes: Array.from({ length: blobCount }, () => Math.floor(sizeBytes / blobCount)),
  seed: Number(values.seed),
  upBytesPerSecond: linkBytesPerSecond,
  downBytesPerSecond: linkBytesPerSecond,
  originBytesPerSecond:
    originMb === undefined ? linkBytesPerSecond * Number(values['origin-links']) : Number(originMb) * MB,
  latencyMs: Number(values['latency-ms']),
  originLatencyMs: 5,
  startSpreadMs: Number(values['spread-ms']),
  limits: JSON.parse(values.limits) as Record<string, number>,
});
const isDone = world.run(3_600_000);
const result = {
  scenario: 'burst',
  ...measure(world),
  isDone,
  wallSeconds: (performance.now() - startedMs) / 1000,
};
if (values.verbose) console.log(world.counts, Object.fromEntries(world.notes));
if (values.json) console.log(JSON.stringify(result));
else console.log(result);
if (!isDone) process.exitCode = 1;
