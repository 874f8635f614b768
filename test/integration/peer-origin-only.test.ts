import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, isShoalError } from '../../shim/base/errors.ts';
import { DiskCache } from '../../shim/cache/disk-cache.ts';
import type { ReadOrigin, Transfer } from '../../shim/peer/transfer.ts';
import { createTransferEngine, type RunningTransferEngine } from '../../shim/peer/transfer-engine.ts';
import type { TransferLimits } from '../../shim/peer/transfer-limits.ts';
import { BlobOrigin, type SampleBlob, sampleBlob } from '../support/blob-origin.ts';

const MIB = 1024 * 1024;
const HOST = 'registry.test';

interface World {
  readonly blob: SampleBlob;
  readonly origin: BlobOrigin;
  readonly engine: RunningTransferEngine;
  readonly directory: string;
  open(readOrigin?: ReadOrigin): Transfer;
  restart(): Promise<World>;
}

async function withWorld(
  options: { sizeBytes: number; limits?: Partial<TransferLimits> },
  body: (world: World) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-engine-'));
  const blob = sampleBlob(options.sizeBytes);
  const origin = await BlobOrigin.start(blob);
  const open: { close(): Promise<void> }[] = [];
  const start = async (): Promise<World> => {
    const cache = await DiskCache.open({ directory });
    const engine = await createTransferEngine({ cache, ...(options.limits && { limits: options.limits }) });
    open.push(engine, cache);
    const key = { host: HOST, digest: blob.digest };
    return {
      blob,
      origin,
      engine,
      directory,
      open: (readOrigin = origin.reader(blob.digest)) =>
        engine.open({ key, sizeBytes: options.sizeBytes, readOrigin }),
      restart: async () => {
        for (const one of open.splice(0)) await one.close();
        return start();
      },
    };
  };
  try {
    await body(await start());
  } finally {
    for (const one of open) await one.close();
    await origin.close();
    rmSync(directory, { recursive: true });
  }
}

function digestOfFile(path: string): string {
  return `sha256:${createHash('sha256').update(readFileSync(path)).digest('hex')}`;
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'none',
    (error) => (isShoalError(error) ? error.code : String(error)),
  );
}

test('open() fills the file from the origin, each byte read once, and the prefix only grows', async () => {
  await withWorld({ sizeBytes: 40 * MIB + 12_345 }, async ({ blob, origin, open }) => {
    const transfer = open();
    const prefixes: number[] = [];
    transfer.onPrefix((prefix) => prefixes.push(prefix));
    await transfer.finished;
    assert.equal(transfer.prefixBytes, blob.bytes.length);
    assert.equal(prefixes.at(-1), blob.bytes.length);
    assert.equal(
      [...prefixes].sort((a, b) => a - b),
      prefixes,
    );
    assert.equal(digestOfFile(transfer.path), blob.digest);
    assert.equal(origin.bytesSent, blob.bytes.length);
    assert.equal(transfer.counts, { originBytes: blob.bytes.length, peerBytes: 0, cacheBytes: 0 });
    await transfer.confirm();
    transfer.release();
  });
});

test('open() of a confirmed blob reads nothing from the origin, also after a restart', async () => {
  await withWorld({ sizeBytes: 5 * MIB }, async (world) => {
    const first = world.open();
    await first.finished;
    await first.confirm();
    first.release();
    const after = await world.restart();
    const second = after.open();
    await second.finished;
    assert.equal(second.counts, { originBytes: 0, peerBytes: 0, cacheBytes: 5 * MIB });
    assert.equal(world.origin.bytesSent, 5 * MIB);
    second.release();
  });
});

test('two pulls of one blob read the origin once, and the second one outlives the first', async () => {
  await withWorld({ sizeBytes: 30 * MIB, limits: { originBytesPerSecond: 60e6 } }, async (world) => {
    const first = world.open();
    const second = world.open();
    await new Promise<void>((resolve) => first.onPrefix(() => resolve()));
    first.release();
    await second.finished;
    assert.equal(digestOfFile(second.path), world.blob.digest);
    assert.ok(
      world.engine.counters.originBytes < 34 * MIB,
      `${world.engine.counters.originBytes} bytes were read`,
    );
    assert.equal(await codeOf(first.finished), ErrorCode.Cancelled);
    second.release();
  });
});

test('a restart in the middle of a pull does not fetch verified chunks again', async () => {
  await withWorld({ sizeBytes: 32 * MIB, limits: { originBytesPerSecond: 60e6 } }, async (world) => {
    const first = world.open();
    await new Promise<void>((resolve) => first.onPrefix((prefix) => prefix >= 10 * MIB && resolve()));
    const after = await world.restart();
    assert.equal(await codeOf(first.finished), ErrorCode.Cancelled);
    const second = after.open();
    await second.finished;
    assert.ok(second.counts.cacheBytes >= 10 * MIB);
    assert.equal(second.counts.cacheBytes + second.counts.originBytes, 32 * MIB);
    assert.equal(digestOfFile(second.path), world.blob.digest);
    second.release();
  });
});

test('an origin that cuts its answers short is asked for the rest only', async () => {
  await withWorld({ sizeBytes: 24 * MIB }, async ({ origin, blob, open, engine }) => {
    origin.misbehave = (_request, response, count) => {
      if (count > 1) return false;
      response.writeHead(206, { 'content-length': 24 * MIB });
      response.write(blob.bytes.subarray(0, 9 * MIB), () => response.destroy());
      return true;
    };
    const transfer = open();
    await transfer.finished;
    assert.equal(digestOfFile(transfer.path), blob.digest);
    assert.ok(engine.counters.originErrors >= 1);
    assert.ok(engine.counters.originBytes <= 26 * MIB);
    transfer.release();
  });
});

test('a silent origin is Stalled and a refusing one gives its own error', async () => {
  await withWorld({ sizeBytes: 3 * MIB, limits: { originStallMs: 100 } }, async ({ origin, open }) => {
    origin.misbehave = () => true;
    const silent = open();
    assert.equal(await codeOf(silent.finished), ErrorCode.Stalled);
    silent.release();
    origin.misbehave = (_request, response) => response.writeHead(401).end() !== undefined;
    const refused = open();
    assert.equal(await codeOf(refused.finished), ErrorCode.Unauthorized);
    refused.release();
  });
});

test('a pull whose credentials are refused does not harm one whose are not', async () => {
  await withWorld({ sizeBytes: 6 * MIB }, async ({ blob, origin, open }) => {
    const refused = open(origin.reader(`sha256:${'0'.repeat(64)}` as typeof blob.digest));
    const good = open();
    await good.finished;
    assert.equal(digestOfFile(good.path), blob.digest);
    refused.release();
    good.release();
  });
});

test('distrust() drops every byte and reads the origin again', async () => {
  await withWorld({ sizeBytes: 8 * MIB }, async ({ blob, origin, open }) => {
    origin.misbehave = (_request, response) => {
      origin.misbehave = () => false;
      response.writeHead(206, { 'content-length': 8 * MIB }).end(Buffer.alloc(8 * MIB));
      return true;
    };
    const wrong = open();
    await wrong.finished;
    assert.is.not(digestOfFile(wrong.path), blob.digest);
    const again = await wrong.distrust();
    await again.finished;
    assert.equal(digestOfFile(again.path), blob.digest);
    assert.equal(again.counts.originBytes, 8 * MIB);
    await again.confirm();
    again.release();
  });
});

test('adopt() serves from the other file, gives up the own name, and forgets it when that file goes', async () => {
  await withWorld({ sizeBytes: 5 * MIB }, async (world) => {
    const first = world.open();
    await first.finished;
    await first.confirm();
    const own = first.path;
    const elsewhere = join(world.directory, 'elsewhere');
    linkSync(own, elsewhere);
    await world.engine.adopt(first.key, elsewhere, 5 * MIB);
    first.release();
    const second = world.open();
    await second.finished;
    assert.equal(second.path, elsewhere);
    assert.equal(second.counts.cacheBytes, 5 * MIB);
    assert.not(existsSync(own));
    second.release();
    rmSync(elsewhere);
    const third = world.open();
    await third.finished;
    assert.equal(third.counts.originBytes, 5 * MIB);
    third.release();
  });
});

const asRoot = process.getuid?.() === 0 ? test : test.skip;
asRoot(
  'a full cache disk is CacheUnavailable, gives its room back, and refuses the next pull at once',
  async () => {
    await withWorld({ sizeBytes: 20 * MIB }, async ({ blob, origin, directory }) => {
      const mountPoint = join(directory, 'small');
      mkdirSync(mountPoint);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', mountPoint]);
      const cache = await DiskCache.open({ directory: mountPoint });
      const engine = await createTransferEngine({ cache });
      try {
        const request = {
          key: { host: HOST, digest: blob.digest },
          sizeBytes: 20 * MIB,
          readOrigin: origin.reader(blob.digest),
        };
        const full = engine.open(request);
        assert.equal(await codeOf(full.finished), ErrorCode.CacheUnavailable);
        full.release();
        const requests = origin.requests;
        const next = engine.open(request);
        assert.equal(await codeOf(next.finished), ErrorCode.CacheUnavailable);
        assert.equal(origin.requests, requests);
        next.release();
        await engine.close();
        assert.ok(statfsSync(mountPoint).bavail * statfsSync(mountPoint).bsize > 7 * MIB);
      } finally {
        await engine.close();
        await cache.close();
        execFileSync('umount', [mountPoint]);
      }
    });
  },
);

test('an empty blob is finished at once', async () => {
  await withWorld({ sizeBytes: 0 }, async ({ open }) => {
    const transfer = open();
    await transfer.finished;
    assert.equal(transfer.prefixBytes, 0);
    transfer.release();
  });
});

test.run();
