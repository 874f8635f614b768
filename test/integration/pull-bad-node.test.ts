// time limit: 150 s
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { buildImage } from '../support/images/build-image.ts';
import { buildSampleImage, randomBytes } from '../support/images/samples.ts';
import {
  assertNothingLeft,
  eventually,
  failureOf,
  startNodeSite,
  startOriginSite,
} from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { type CriCallError, pull, runCrictl } from '../support/real/crictl.ts';
import { loopFileSystem } from '../support/real/file-system.ts';
import { testedVersion } from '../support/real/import-site.ts';

const MB = 1_000_000;
/** Work must have ended this long after the caller went away. */
const CANCEL_MS = 1000;

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test('a pull while containerd is away fails as Unavailable, the next one after its return works', async () => {
    await using origin = await startOriginSite();
    await using node = await startNodeSite();
    using image = await imageOf(MB, 'away');
    const { reference } = await origin.push(image, 'team/app');
    await node.containerd.kill('SIGTERM');
    const failure = await failureOf(pull({ ...node.cri, timeoutMs: 10_000 }, reference));
    assert.is(failure.code, 'Unavailable', failure.message);
    await node.containerd.start();
    assert.is(await pull(node.cri, reference), image.config.digest);
    await assertNothingLeft(node);
  });

  test('containerd restarted within a pull: an error or success, nothing left, the next pull works', async () => {
    await using origin = await startOriginSite({ rateBytesPerSecond: 5 * MB });
    await using node = await startNodeSite();
    using image = await imageOf(10 * MB, 'restart');
    const { reference } = await origin.push(image, 'team/app');
    const outcome = pull(node.cri, reference).catch((error: CriCallError) => error.code);
    await untilBytes(origin.gate, 3 * MB);
    await node.containerd.restart();
    assert.ok(['Unavailable', image.config.digest].includes(String(await outcome)), String(await outcome));
    assert.is(await pull(node.cri, reference), image.config.digest);
    await assertNothingLeft(node);
    assert.match(await node.containerd.ctr('images', 'check'), /complete/);
    assert.ok(origin.gate.count({ class: 'blob' }).bytes < 14 * MB, 'verified chunks are not fetched again');
  });

  test('a full cache disk: containerd pulls', async () => {
    await using disk = await loopFileSystem(4 * MB, 'tmpfs');
    await using origin = await startOriginSite();
    await using node = await startNodeSite(cacheIn(disk.path));
    using image = await imageOf(10 * MB, 'full');
    const { reference } = await origin.push(image, 'team/app');
    assert.is(await pull(node.cri, reference), image.config.digest);
    assert.match(node.agent.log(), /"handOver","reason":"CACHE_UNAVAILABLE"/);
    await assertNothingLeft(node);
    assert.ok(disk.usedBytes() < MB, `${disk.usedBytes()} bytes of the disk are still used`);
  });

  test('a cache disk that has become read-only: containerd pulls', async () => {
    await using disk = await loopFileSystem(40 * MB, 'tmpfs');
    await using origin = await startOriginSite();
    await using node = await startNodeSite(cacheIn(disk.path));
    // The agent has files open on its own mount; what it makes from now on goes to the one above.
    assert.is(
      spawnSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'tmpfs', join(disk.path, 'cache/v1')]).status,
      0,
    );
    using image = await imageOf(3 * MB, 'read-only');
    const { reference } = await origin.push(image, 'team/app');
    assert.is(await pull(node.cri, reference), image.config.digest);
    assert.match(node.agent.log(), /"handOver","reason":"CACHE_UNAVAILABLE"/);
    await assertNothingLeft(node);
  });

  test('a full disk of containerd: its own error, nothing left, and a pull works when there is room', async () => {
    await using disk = await loopFileSystem(40 * MB, 'tmpfs');
    await using origin = await startOriginSite();
    await using node = await startNodeSite({ containerd: { root: disk.path } });
    using big = await imageOf(50 * MB, 'too-big');
    const { reference } = await origin.push(big, 'team/big');
    const failure = await failureOf(pull(node.cri, reference));
    assert.match(failure.message, /no space left|ENOSPC/);
    using small = await imageOf(2 * MB, 'small');
    const fits = await origin.push(small, 'team/small');
    const pulled = await eventually(
      () => pull(node.cri, fits.reference).catch((error: CriCallError) => error.message),
      (answer) => answer === small.config.digest,
    );
    assert.is(pulled, small.config.digest);
    await assertNothingLeft(node);
  });

  for (const [how, leave] of Object.entries({
    'is killed': (gone: AbortController) => gone.abort(),
    'reaches its deadline': () => undefined,
  }))
    test(`a client that ${how}: the work ends within a second, only the cache stays`, async () => {
      await using origin = await startOriginSite({ rateBytesPerSecond: 2 * MB });
      await using node = await startNodeSite();
      using image = await imageOf(20 * MB, how);
      const { reference } = await origin.push(image, 'team/app');
      const gone = new AbortController();
      const timeoutMs = how === 'is killed' ? 60_000 : 5_000;
      const failed = failureOf(pull({ ...node.cri, timeoutMs, signal: gone.signal }, reference));
      await untilBytes(origin.gate, 7 * MB);
      leave(gone);
      const failure = await failed;
      if (how !== 'is killed') assert.is(failure.code, 'DeadlineExceeded');
      const endedMs = performance.now();
      await eventually(
        () => node.agent.status(),
        ({ pulls }) => pulls.length === 0,
      );
      assert.ok(performance.now() - endedMs < CANCEL_MS, `${performance.now() - endedMs} ms`);
      const before = origin.gate.count({ class: 'blob' }).bytes;
      await assertNothingLeft(node);
      assert.is(origin.gate.count({ class: 'blob' }).bytes, before, 'bytes were read after the end');
      assert.equal((await runCrictl<{ images: unknown[] }>(node.cri, 'images')).images, []);
      origin.gate.setRate(undefined);
      origin.gate.reset();
      assert.is(await pull(node.cri, reference), image.config.digest);
      assert.ok(origin.gate.count({ class: 'blob' }).bytes < 19 * MB, 'cached chunks were fetched again');
    });

  test('an agent killed within a pull takes it up where it was, and sweeps what it left', async () => {
    await using origin = await startOriginSite({ rateBytesPerSecond: 5 * MB });
    await using node = await startNodeSite();
    using image = await imageOf(20 * MB, 'killed');
    const { reference } = await origin.push(image, 'team/app');
    const failed = failureOf(pull(node.cri, reference));
    await untilBytes(origin.gate, 12 * MB);
    node.agent.kill('SIGKILL');
    assert.is((await failed).code, 'Unavailable');
    await node.agent.restart();
    assert.match(node.agent.log(), 'swept');
    assert.is(await pull(node.cri, reference), image.config.digest);
    const { bytes } = origin.gate.count({ class: 'blob' });
    assert.ok(
      bytes < image.layerBytes + 4 * 2 ** 21,
      `${bytes} bytes in all: at most what was in flight is read again`,
    );
    assert.match(await node.containerd.ctr('images', 'check'), /complete/);
    await assertNothingLeft(node);
    assert.is(readdirSync(join(node.agent.directory, 'cache')).length > 0, true);
  });

  test('a layer that two pulls want at once is fetched once', async () => {
    await using origin = await startOriginSite({ rateBytesPerSecond: 5 * MB });
    await using node = await startNodeSite();
    const shared = { entries: [{ name: 'shared', content: randomBytes(8 * MB, 'shared') }] };
    const own = (name: string) => ({ entries: [{ name, content: name }] });
    using one = await buildImage({ layers: [shared, own('one')], gzipLevel: 0 });
    using two = await buildImage({ layers: [shared, own('two')], gzipLevel: 0 });
    const pushed = [await origin.push(one, 'team/one'), await origin.push(two, 'team/two')];
    const ids = await Promise.all(pushed.map(({ reference }) => pull(node.cri, reference)));
    assert.equal(ids, [one.config.digest, two.config.digest]);
    const { bytes } = origin.gate.count({ class: 'blob' });
    assert.ok(bytes < 8.1 * MB, `${bytes} bytes`);
    await assertNothingLeft(node);
  });
}

test.run();

function imageOf(sizeBytes: number, seed: string) {
  return buildSampleImage({ layerSizesBytes: [sizeBytes], seed });
}

function cacheIn(directory: string) {
  return { agent: { settings: { p2p: { v2: { cache: { directory: join(directory, 'cache') } } } } } };
}

async function untilBytes(
  gate: { count(filter: { class: 'blob' }): { bytes: number } },
  bytes: number,
): Promise<void> {
  const read = await eventually(
    () => gate.count({ class: 'blob' }).bytes,
    (sent) => sent >= bytes,
  );
  assert.ok(read >= bytes, `only ${read} bytes were read`);
}
