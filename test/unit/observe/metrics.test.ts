import { createServer } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, isShoalError } from '../../../shim/base/errors.ts';
import { createObserveHandler, startExporter } from '../../../shim/observe/exporter.ts';
import { Metrics } from '../../../shim/observe/metrics.ts';
import { newTransferCounters } from '../../../shim/peer/transfer-counters.ts';

const node = '192.168.69.172:65002';
let nowMs = 0;
const open: Metrics[] = [];

function newMetrics(sources: ConstructorParameters<typeof Metrics>[0]['sources'] = {}): Metrics {
  const metrics = new Metrics({ node, mode: 'agent', nowMs: () => nowMs, sources });
  open.push(metrics);
  return metrics;
}

test.before.each(() => {
  nowMs = 1_000_000;
});
test.after.each(() => {
  for (const metrics of open.splice(0)) metrics.close();
});

test('Metrics has the names, kinds and labels of the guides, all gauges', async () => {
  const { text } = await newMetrics({
    cache: () => ({ allocatedBytes: 4_294_967_296, usedBytes: 12 }),
  }).render();
  const names = ['Alive', 'Read_Throughtput', 'QPS', 'MaxLatency', 'Count', 'Cache', 'Label'];
  for (const name of names) assert.match(text, `# TYPE DADIP2P_${name} gauge\n`);
  assert.match(text, `DADIP2P_Alive{node="${node}",mode="agent"} 1\n`);
  for (const name of ['Read_Throughtput', 'QPS', 'MaxLatency', 'Count']) {
    for (const type of ['pread', 'download', 'peer', 'disk', 'http']) {
      assert.match(
        text,
        new RegExp(
          `^DADIP2P_${name}\\{(?=.*node="${node}")(?=.*type="${type}")(?=.*mode="agent").*\\} 0$`,
          'm',
        ),
      );
    }
  }
  assert.match(text, /^DADIP2P_Cache\{.*type="allocated".*\} 4294967296$/m);
  assert.match(text, /^DADIP2P_Cache\{.*type="used".*\} 12$/m);
});

test('Metrics turns recorded requests into rate, latency and bytes', async () => {
  const metrics = newMetrics();
  metrics.recordTraffic('http', 5000, 1234);
  metrics.recordTraffic('http', -1, 99);
  const { text } = await metrics.render();
  assert.match(text, /^DADIP2P_Count\{.*type="http".*\} 5000$/m);
  assert.match(text, /^DADIP2P_Read_Throughtput\{.*type="http".*\} 500$/m);
  assert.match(text, /^DADIP2P_QPS\{.*type="http".*\} 0\.2$/m);
  assert.match(text, /^DADIP2P_MaxLatency\{.*type="http".*\} 1234$/m);
});

test("Metrics reads the transfer engine's own counters, once for each scrape", async () => {
  const counters = newTransferCounters();
  const metrics = newMetrics({ transfer: () => counters, peers: () => 3 });
  counters.originBytes = 10;
  counters.peerBytes = 20;
  counters.servedBytes = 5;
  counters.cacheBytes = 30;
  counters.peerBadChunks = 2;
  await metrics.render();
  const { text } = await metrics.render();
  assert.match(text, 'shoal_bytes_total{source="origin"} 10\n');
  assert.match(text, 'shoal_bytes_total{source="peer"} 20\n');
  assert.match(text, 'shoal_bytes_total{source="cache"} 30\n');
  assert.match(text, 'shoal_peer_bad_chunks_total 2\n');
  assert.match(text, 'shoal_peers 3\n');
  assert.match(text, /^DADIP2P_Count\{.*type="download".*\} 10$/m);
  assert.match(text, /^DADIP2P_Count\{.*type="peer".*\} 25$/m);
});

test('Metrics tells how full the disk of the cache is, and what was dropped for that', async () => {
  const evictedBytes = { capacity: 7, highWater: 9 };
  const { text } = await newMetrics({
    cache: () => ({ allocatedBytes: 1, usedBytes: 1, evictedBytes, diskUsedRatio: 0.5 }),
  }).render();
  assert.match(text, 'shoal_cache_disk_used_ratio 0.5\n');
  assert.match(text, 'shoal_cache_evicted_bytes_total{reason="capacity"} 7\n');
  assert.match(text, 'shoal_cache_evicted_bytes_total{reason="highWater"} 9\n');
});

test('Metrics counts pulls by outcome and reason, and hand-overs by reason', async () => {
  const metrics = newMetrics();
  metrics.recordPull({ outcome: 'done', reason: 'ok', seconds: 0.3 });
  metrics.recordPull({ outcome: 'handedOver', reason: 'STALLED', seconds: 30 });
  metrics.recordDecision(true, 'pod label');
  const { text } = await metrics.render();
  assert.match(text, 'shoal_pulls_total{outcome="done",reason="ok"} 1\n');
  assert.match(text, 'shoal_hand_overs_total{reason="STALLED"} 1\n');
  assert.match(text, 'shoal_pull_seconds_bucket{le="0.5",outcome="done"} 1\n');
  assert.match(text, 'shoal_policy_decisions_total{accelerate="true",reason="pod label"} 1\n');
});

test('Metrics bounds the series that reasons can make', async () => {
  const metrics = newMetrics();
  for (let index = 0; index < 500; index++) metrics.recordDecision(false, `reason ${index}`);
  const { text } = await metrics.render();
  assert.is(text.match(/^shoal_policy_decisions_total\{/gm)?.length, 101);
  assert.match(text, 'reason="other"} 400\n');
});

test('Metrics instances share nothing', async () => {
  newMetrics().recordPull({ outcome: 'done', reason: 'ok', seconds: 1 });
  assert.not.match((await newMetrics().render()).text, 'outcome="done"');
});

test('startExporter() serves metrics, health and status, and nothing else', async () => {
  let trouble: string | undefined;
  const handler = createObserveHandler({
    metrics: newMetrics(),
    unhealthyBecause: () => trouble,
    status: () => ({ version: '1' }),
  });
  const exporter = await startExporter({ host: '127.0.0.1', port: 0 }, handler);
  try {
    const get = (path: string, method = 'GET') =>
      fetch(`http://127.0.0.1:${exporter.port}${path}`, { method });
    const metrics = await get('/metrics?x=1');
    assert.is(metrics.status, 200);
    assert.match(metrics.headers.get('content-type') ?? '', 'text/plain; version=0.0.4');
    assert.match(await metrics.text(), 'DADIP2P_Alive');
    assert.is(await (await get('/healthz')).text(), 'ok\n');
    trouble = 'containerd is away';
    const sick = await get('/healthz');
    assert.is(sick.status, 503);
    assert.is(await sick.text(), 'containerd is away\n');
    assert.equal(await (await get('/status')).json(), { version: '1' });
    assert.is((await get('/metrics', 'POST')).status, 405);
    assert.is((await get('/v2/')).status, 404);
  } finally {
    await exporter.close();
  }
});

test('startExporter() refuses a port that is taken', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  const address = other.address();
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
  try {
    await startExporter({ host: '127.0.0.1', port }, () => false);
    assert.unreachable();
  } catch (error) {
    assert.ok(isShoalError(error, ErrorCode.ListenFailed));
    assert.match(error.message, `"127.0.0.1:${port}": EADDRINUSE, a free port is wanted`);
  } finally {
    other.close();
  }
});

test.run();
