// time limit: 120 s
import pino from 'pino';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { nodePlatform } from '../../shim/agent/node-platform.ts';
import { DiskCache } from '../../shim/cache/disk-cache.ts';
import { createTransferEngine } from '../../shim/peer/transfer-engine.ts';
import { PullProgress } from '../../shim/pull/progress.ts';
import { type PullDependencies, pullImage } from '../../shim/pull/pull-image.ts';
import { openOrigin } from '../../shim/registry/open-origin.ts';
import type { Credentials } from '../../shim/registry/origin.ts';
import { parseReference } from '../../shim/registry/reference.ts';
import { LayoutStore } from '../../shim/store/layout-store.ts';
import { createUnpackPool } from '../../shim/unpack/create-unpack-pool.ts';
import { type WarmEnd, Warmer, type WarmerOptions } from '../../shim/warm/warmer.ts';
import { buildImage } from '../support/images/build-image.ts';
import { randomBytes } from '../support/images/samples.ts';
import { eventually, type OriginSite, startOriginSite } from '../support/pull-site.ts';
import { canRun, componentsAvailable } from '../support/real/components.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';

const LAYER_BYTES = 5_000_000;
const KAY = { username: 'kay', password: 'right' };
const basic = { user: KAY.username, password: KAY.password };
const never = new AbortController().signal;

if (canRun(componentsAvailable('registry'))) {
  test('a refusal is not repeated with the same credentials, and others are tried when they turn up', async () => {
    await using origin = await startOriginSite({ basic });
    const offered: Credentials[] = [];
    const dropped: Credentials[] = [];
    await using site = await startSite({
      candidates: async () =>
        offered.map((credentials) => ({ credentials, onRefused: () => void dropped.push(credentials) })),
    });
    const image = await pushed(origin, 'private');
    site.want(image);
    assert.equal(await site.nextEnd(), ['refused', 'UNAUTHORIZED']);
    const wrong = { ...KAY, password: 'wrong' };
    offered.push(wrong);
    site.warmer.reconsider('default', origin.gate.host);
    assert.equal(await site.nextEnd(), ['refused', 'UNAUTHORIZED']);
    assert.equal(dropped, [wrong]);
    origin.gate.reset();
    site.want(image);
    site.warmer.reconsider('default', origin.gate.host);
    assert.equal(await site.nextEnd(), ['refused', 'UNAUTHORIZED']);
    assert.is(origin.gate.count().requests, 0, 'all that there is has been refused');
    offered.push(KAY);
    site.warmer.reconsider('default', origin.gate.host);
    assert.equal(await site.nextEnd(), ['warmed', 'none']);
    assert.is(site.warmer.queue.stateOf(image), 'held');
  });

  test('an image that is missing fails once, without harm to the next', async () => {
    await using origin = await startOriginSite();
    await using site = await startSite();
    const image = await pushed(origin, 'there');
    const missing = image.replace(':v1', ':v2');
    site.want(missing, image);
    const ends = [await site.nextEnd(), await site.nextEnd()];
    assert.equal(ends.toSorted(), [
      ['failed', 'NOT_FOUND'],
      ['warmed', 'none'],
    ]);
  });

  test('nothing is fetched that the disk has no room for', async () => {
    await using origin = await startOriginSite();
    const asked: number[] = [];
    await using site = await startSite({
      hasRoom: async (bytes) => {
        asked.push(bytes);
        return false;
      },
    });
    site.want(await pushed(origin, 'big'));
    assert.equal(await site.nextEnd(), ['failed', 'LIMIT_EXCEEDED']);
    assert.ok((asked[0] ?? 0) >= LAYER_BYTES);
    assert.ok(origin.gate.count({ class: 'blob' }).bytes < LAYER_BYTES / 100);
  });

  test('what no pull comes for is given up after the time that it is held', async () => {
    await using origin = await startOriginSite();
    await using site = await startSite({ limits: { atOnce: 1, holdMs: 200 } });
    const image = await pushed(origin, 'forgotten');
    site.want(image);
    await site.nextEnd();
    const state = () => site.warmer.queue.stateOf(image);
    assert.is(await eventually(state, (found) => found === 'over'), 'over');
  });

  test('a warm-up stops when its pod goes, and what is held when the disk is full', async () => {
    await using origin = await startOriginSite({ rateBytesPerSecond: 1_000_000 });
    await using site = await startSite();
    site.want(await pushed(origin, 'stopped'));
    await eventually(
      () => origin.gate.count({ class: 'blob' }).bytes,
      (bytes) => bytes > 500_000,
    );
    site.warmer.forget('pod');
    assert.equal(await site.nextEnd(), ['stopped', 'none']);
    assert.is(site.warmer.queue.count('running'), 0);
    assert.is(site.engine.liveBlobs, 0);
    origin.gate.setRate(undefined);
    const image = await pushed(origin, 'held');
    site.want(image);
    await site.nextEnd();
    site.warmer.relieve();
    assert.is(site.warmer.queue.count('held'), 0);
  });

  test('a pull does not wait for a warm-up that brings nothing', async () => {
    await using origin = await startOriginSite();
    await using site = await startSite();
    const image = await pushed(origin, 'stuck');
    const fault = { kind: 'hang', afterBytes: 0 } as const;
    const stuck = origin.gate.inject({ class: 'blob', after: 1, times: 1, fault });
    site.want(image);
    await eventually(
      () => stuck.hits(),
      (hits) => hits === 1,
    );
    const startedMs = performance.now();
    const { broughtCounts } = await site.pull(image);
    assert.ok(performance.now() - startedMs < 15_000);
    assert.ok(broughtCounts.originBytes >= LAYER_BYTES);
    assert.is(site.warmer.queue.stateOf(image), 'over');
  });

  test('close() ends a warm-up in the middle', async () => {
    await using origin = await startOriginSite({ rateBytesPerSecond: 1_000_000 });
    await using site = await startSite();
    site.want(await pushed(origin, 'closed'));
    await eventually(
      () => origin.gate.count({ class: 'blob' }).bytes,
      (bytes) => bytes > 500_000,
    );
    const startedMs = performance.now();
    await site.warmer.close();
    assert.ok(performance.now() - startedMs < 2_000);
    assert.is(site.engine.liveBlobs, 0);
  });
}

test.run();

async function pushed(origin: OriginSite, name: string): Promise<string> {
  const entries = [{ name: 'data', content: randomBytes(LAYER_BYTES, name) }];
  using image = await buildImage({ layers: [{ entries }], gzipLevel: 0 });
  return (await origin.push(image, `team/${name}`)).reference;
}

/** A warmer on a layout store, without an agent around it. */
async function startSite(options: Partial<WarmerOptions> = {}) {
  await using stack = new AsyncDisposableStack();
  const root = stack.use(makeTemporaryRoot('wrm'));
  const cache = await DiskCache.open({ directory: `${root.path}/cache`, capacityBytes: 1e9 });
  stack.defer(() => cache.close());
  const engine = await createTransferEngine({ cache });
  stack.defer(() => engine.close());
  const unpack = createUnpackPool({ workersMax: 1 });
  stack.defer(() => unpack.close());
  const store = await LayoutStore.open(`${root.path}/layout`);
  stack.defer(() => store.close());
  const dependencies: PullDependencies = {
    engine,
    unpack,
    store,
    platform: nodePlatform(),
    privileged: false,
    unpackedBytesMax: 1e9,
    layersAtOnce: 2,
    stallTimeoutMs: 30_000,
  };
  const ends: WarmEnd[] = [];
  const warmer = new Warmer({
    dependencies,
    openOrigin: (reference, credentials) => openOrigin({ reference, ...(credentials && { credentials }) }),
    limits: { atOnce: 2, holdMs: 60_000 },
    candidates: async () => [],
    throttle: () => undefined,
    hasRoom: async () => true,
    onEnd: (end) => void ends.push(end),
    log: pino({ enabled: false }),
    nowMs: () => performance.now(),
    ...options,
  });
  stack.defer(() => warmer.close());
  const owned = stack.move();
  return {
    warmer,
    engine,
    want: (...images: string[]) => warmer.want({ podUid: 'pod', namespace: 'default', images, atOnce: 16 }),
    /** How the next warm-up ended. */
    nextEnd: async () => {
      const end = await eventually(
        () => ends.shift(),
        (found) => found !== undefined,
      );
      return [end?.outcome, end?.reason];
    },
    pull: async (image: string) => {
      const reference = parseReference(image);
      const origin = openOrigin({ reference });
      const ended = warmer.pullBegins(image);
      const progress = new PullProgress(image);
      const parts = { ...dependencies, ahead: warmer };
      try {
        return await pullImage(parts, { reference, origin, progress }, never);
      } finally {
        ended();
        await origin.close();
      }
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
