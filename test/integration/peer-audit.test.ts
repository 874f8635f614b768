import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createTrafficObserver } from '../../shim/agent/traffic-observer.ts';
import { createAuditLog } from '../../shim/observe/audit-log.ts';
import { Metrics } from '../../shim/observe/metrics.ts';
import { sampleBlob } from '../support/blob-origin.ts';
import { HOST, type PeerNode, PeerWorld, pull } from '../support/peer-nodes.ts';

const MIB = 1024 * 1024;
const CHUNK_BYTES = 2 * MIB;
const line =
  /^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d\|AUDIT\|th=[0-9A-F]{16}\|([a-z:]+)\[pathname=\/([^\]]+)\]\[offset=(\d+)\]\[size=(-?\d+)\]\[latency=(\d+)\]\n$/;

interface Audited {
  readonly operation: string;
  readonly url: string;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** One node's audit log and metrics, wired as the agent wires them. */
class Watch {
  readonly lines: string[] = [];
  node: PeerNode | undefined;
  readonly metrics = new Metrics({
    node: '127.0.0.1:65002',
    mode: 'root',
    nowMs: () => performance.now(),
    sources: { transfer: () => this.counters },
  });
  readonly audit = createAuditLog({ write: (text) => void this.lines.push(text) }, 1, () => new Date());
  readonly observer = createTrafficObserver(this.metrics, this.audit);

  get counters() {
    if (this.node === undefined) throw new Error('the node has not started');
    return this.node.engine.counters;
  }

  of(operation: string): Audited[] {
    return this.lines.map(parse).filter((entry) => entry.operation === operation);
  }

  bytes(operation: string): number {
    return this.of(operation).reduce((sum, { sizeBytes }) => sum + Math.max(0, sizeBytes), 0);
  }

  async gauge(name: string, type: string): Promise<number> {
    const { text } = await this.metrics.render();
    const sample = new RegExp(`^DADIP2P_${name}\\{.*type="${type}".*\\} (.*)$`, 'm').exec(text);
    return Number(sample?.[1]);
  }
}

function parse(text: string): Audited {
  const [, operation = '', url = '', offset, size] = line.exec(text) ?? [];
  assert.ok(operation !== '', `this is no audit line: ${text}`);
  return { operation, url, offsetBytes: Number(offset), sizeBytes: Number(size) };
}

async function run(
  blobBytes: number,
  count: number,
  body: (world: PeerWorld, watches: Watch[], blob: ReturnType<typeof sampleBlob>) => Promise<void>,
): Promise<void> {
  const blob = sampleBlob(blobBytes);
  const watches = Array.from({ length: count }, () => new Watch());
  try {
    await PeerWorld.run([blob], async (world) => {
      for (const watch of watches) watch.node = await world.addNode({ observer: watch.observer });
      await body(world, watches, blob);
    });
  } finally {
    for (const watch of watches) watch.metrics.close();
  }
}

const sum = (watches: readonly Watch[], of: (watch: Watch) => number): number =>
  watches.reduce((total, watch) => total + of(watch), 0);

test('audit lines of three nodes add up to the image, to what was sent, and to the metrics', async () => {
  await run(24 * MIB + 321, 3, async (world, watches, blob) => {
    await Promise.all(watches.map(({ node }) => node && pull(node, blob)));
    for (const { node } of watches) await node?.close();
    const size = blob.bytes.length;
    assert.is(
      sum(watches, (watch) => watch.bytes('download')),
      world.origin.bytesSent,
    );
    assert.is(
      sum(watches, (watch) => watch.bytes('rpc:pread')),
      sum(watches, (watch) => watch.counters.servedBytes),
    );
    for (const watch of watches) {
      const writes = watch.of('filewrite');
      assert.is(watch.bytes('filewrite'), size);
      assert.is(new Set(writes.map(({ offsetBytes }) => offsetBytes)).size, Math.ceil(size / CHUNK_BYTES));
      assert.ok(watch.bytes('fileread') >= watch.bytes('rpc:pread'), 'what is served is read from the cache');
      for (const { url } of writes) assert.is(url, `https://${HOST}/${blob.digest}`);
      assert.is(await watch.gauge('Count', 'download'), watch.counters.originBytes);
      assert.is(await watch.gauge('Count', 'peer'), watch.counters.peerBytes + watch.counters.servedBytes);
      for (const type of ['peer', 'disk']) assert.ok((await watch.gauge('MaxLatency', type)) > 0, type);
    }
  });
});

test('a node that comes back audits what it reads of its cache', async () => {
  await run(10 * MIB + 5, 1, async (world, [watch], blob) => {
    assert.ok(watch?.node);
    const before = watch.node;
    await pull(before, blob);
    await before.close();
    const again = new Watch();
    try {
      again.node = await world.addNode({ observer: again.observer }, before);
      await pull(again.node, blob);
      assert.is(again.bytes('fileread'), blob.bytes.length);
      assert.equal([...again.of('download'), ...again.of('filewrite')], []);
    } finally {
      again.metrics.close();
    }
  });
});

test('a request that the origin fails has a negative size', async () => {
  await run(5 * MIB, 1, async (world, [watch], blob) => {
    assert.ok(watch?.node);
    world.origin.misbehave = (_request, response, count) => {
      if (count === 1) response.writeHead(503).end();
      return count === 1;
    };
    await pull(watch.node, blob);
    const downloads = watch.of('download');
    assert.equal(downloads[0], { ...downloads[0], offsetBytes: 0, sizeBytes: -1 });
    assert.is(downloads.filter(({ sizeBytes }) => sizeBytes < 0).length, 1);
    assert.is(watch.bytes('download'), blob.bytes.length);
  });
});

test.run();
