// time limit: 120 s
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ImportSession, LayerPlan } from '../../shim/store/image-store.ts';
import { buildImage } from '../support/images/build-image.ts';
import { randomBytes } from '../support/images/samples.ts';
import { assertNothingLeft, startNodeSite, startOriginSite } from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { pull, runCrictl } from '../support/real/crictl.ts';
import { addMissingLayers, unpackForSession } from '../support/real/import-image.ts';
import {
  containerdState,
  type ImportSite,
  startImportSite,
  testedVersion,
} from '../support/real/import-site.ts';

const signal = new AbortController().signal;
/** Above what is given early, and below. */
const LARGE_BYTES = 20_000_000;
const SMALL_BYTES = 1_000_000;
/** Between those that bring one layer: each step of one then meets another step of some other. */
const STAGGER_MS = 3;
const UNCOMPRESSED = 'containerd.io/uncompressed';

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test('takeBlob() stores a large blob, and its diff ID is told when the layer is known to be right', async () => {
    await using site = await largeSite();
    const session = await site.store.open(site.plan, signal);
    const path = site.blobPath(layerOf(site, 0).descriptor.digest);
    await session.takeBlob?.(0, path, signal);
    await session.takeBlob?.(1, site.blobPath(layerOf(site, 1).descriptor.digest), signal);
    assert.equal(await storedLayers(site), [layerOf(site, 0).descriptor.digest]);
    assert.not.match(await labelsOf(site, 0), UNCOMPRESSED);
    const stored = await addMissingLayers(session, site.plan, site.blobPath, signal);
    await session.finish(signal);
    assert.match(await labelsOf(site, 0), `${UNCOMPRESSED}=${layerOf(site, 0).diffId}`);
    assert.is(statSync(stored[0] ?? '').ino, statSync(path).ino);
    assert.equal((await containerdState(site.containerd)).ingests, []);
  });

  test("takeBlob() leaves a small blob in the ingest, where it becomes containerd's with its layer", async () => {
    await using site = await largeSite();
    const session = await site.store.open(site.plan, signal);
    const path = site.blobPath(layerOf(site, 1).descriptor.digest);
    assert.not(await session.takeBlob?.(1, path, signal));
    assert.equal(await storedLayers(site), []);
    assert.is((await layerIngests(site)).length, 1);
    assert.is(statSync(path).nlink, 2);
    await addMissingLayers(session, site.plan, site.blobPath, signal);
    await session.finish(signal);
    assert.match(await labelsOf(site, 1), `${UNCOMPRESSED}=${layerOf(site, 1).diffId}`);
    assert.equal(await layerIngests(site), []);
  });

  test('takeBlob() of a small blob forgets the file that it was given before', async () => {
    await using site = await largeSite();
    const session = await site.store.open(site.plan, signal);
    const path = site.blobPath(layerOf(site, 1).descriptor.digest);
    const gone = new AbortController();
    await session.takeBlob?.(1, wrongCopy(path, SMALL_BYTES / 2), gone.signal);
    gone.abort();
    await session.takeBlob?.(1, path, signal);
    const stored = await addMissingLayers(session, site.plan, site.blobPath, signal);
    await session.finish(signal);
    assert.ok(readFileSync(stored[1] ?? '').equals(readFileSync(path)));
    assert.equal(await layerIngests(site), []);
  });

  test('of many that bring the same layer at once, nobody leaves anything in the ingest', async () => {
    await using site = await largeSite();
    const path = site.blobPath(layerOf(site, 1).descriptor.digest);
    const bring = async (_: unknown, index: number): Promise<void> => {
      const session = await site.store.open(site.plan, signal);
      await sleep(index * STAGGER_MS);
      await session.takeBlob?.(1, path, signal);
      await addMissingLayers(session, site.plan, site.blobPath, signal);
      await session.finish(signal);
    };
    await Promise.all(Array.from({ length: 24 }, bring));
    assert.match(await labelsOf(site, 1), UNCOMPRESSED);
    assert.equal(await layerIngests(site), []);
  });

  test('a small blob in the ingest outlives a kill of containerd, and goes with an aborted session', async () => {
    await using site = await largeSite();
    const sessions = [await site.store.open(site.plan, signal), await site.store.open(site.plan, signal)];
    const path = site.blobPath(layerOf(site, 1).descriptor.digest);
    for (const session of sessions) await session.takeBlob?.(1, path, signal);
    const [kept, aborted] = sessions;
    await aborted?.abort();
    assert.is((await layerIngests(site)).length, 1);
    await site.containerd.kill('SIGKILL');
    await site.containerd.start();
    await addMissingLayers(kept as ImportSession, site.plan, site.blobPath, signal);
    await kept?.finish(signal);
    assert.match(await labelsOf(site, 1), UNCOMPRESSED);
    assert.equal(await layerIngests(site), []);
  });

  test('takeBlob() of wrong bytes leaves nothing, and the right ones are stored after it', async () => {
    await using site = await largeSite();
    const session = await site.store.open(site.plan, signal);
    const path = site.blobPath(layerOf(site, 0).descriptor.digest);
    await session.takeBlob?.(0, wrongCopy(path, LARGE_BYTES / 2), signal);
    assert.equal(await storedLayers(site), []);
    assert.equal(await layerIngests(site), []);
    await addMissingLayers(session, site.plan, site.blobPath, signal);
    await session.finish(signal);
    assert.is((await containerdState(site.containerd)).snapshots.length, 2);
  });

  test('a layer that is added while its blob is still on the way waits for it', async () => {
    await using site = await largeSite();
    const session = await site.store.open(site.plan, signal);
    const layer = layerOf(site, 0);
    const path = site.blobPath(layer.descriptor.digest);
    const ready = await unpackForSession(session, 0, layer, path, signal);
    const taken = session.takeBlob?.(0, path, signal);
    await Promise.all([session.addLayer(0, ready, signal), taken]);
    assert.match(await labelsOf(site, 0), UNCOMPRESSED);
    await session.abort();
  });

  test('a large layer that cannot be unpacked is given back, though containerd has its blob', async () => {
    await using origin = await startOriginSite();
    await using node = await startNodeSite();
    const entries = [
      { name: 'large', content: randomBytes(LARGE_BYTES, 'early') },
      { name: 'passwd', type: 'link', linkname: '../../../../../../etc/passwd' } as const,
    ];
    using image = await buildImage({ layers: [{ entries }] });
    const { reference } = await origin.push(image, 'team/slip');
    await pull(node.cri, reference).catch(() => undefined);
    assert.match(node.agent.log(), /UNPACK_[A-Z]+/);
    await runCrictl(node.cri, 'rmi', reference);
    await assertNothingLeft(node);
  });

  test('a large layer whose tar is right and whose blob is not is refused', async () => {
    await using origin = await startOriginSite();
    await using node = await startNodeSite();
    const entries = [{ name: 'large', content: randomBytes(LARGE_BYTES, 'time stamp') }];
    using image = await buildImage({ layers: [{ entries }] });
    const { reference } = await origin.push(image, 'team/stamp');
    // The time in gzip's header: what it inflates to stays the same.
    const fault = { kind: 'wrong-byte', at: 4 } as const;
    const struck = origin.gate.inject({ class: 'blob', path: image.layers[0]?.digest ?? '', fault });
    const error = await pull(node.cri, reference).catch((reason: unknown) => reason);
    assert.ok(error instanceof Error && struck.hits() > 0);
    assert.match(node.agent.log(), /DIGEST_MISMATCH/);
    await assertNothingLeft(node);
    struck.remove();
    await pull(node.cri, reference);
  });
}

test.run();

async function largeSite(): Promise<ImportSite> {
  const layers = [LARGE_BYTES, SMALL_BYTES].map((sizeBytes) => ({
    entries: [{ name: `data-${sizeBytes}`, content: randomBytes(sizeBytes, `early-${sizeBytes}`) }],
  }));
  return await startImportSite({ image: await buildImage({ layers }) });
}

/** Digests of the layers whose blobs containerd has; config and manifest come at any time. */
async function storedLayers({ containerd, plan }: ImportSite): Promise<string[]> {
  const { blobs } = await containerdState(containerd);
  return plan.layers.map(({ descriptor }) => descriptor.digest).filter((digest) => blobs.includes(digest));
}

async function layerIngests({ containerd }: ImportSite): Promise<string[]> {
  return (await containerdState(containerd)).ingests.filter((ref) => ref.includes('-layer-'));
}

/** The same file with one byte turned. */
function wrongCopy(path: string, at: number): string {
  const bytes = readFileSync(path);
  bytes[at] = ~(bytes[at] ?? 0);
  writeFileSync(`${path}.wrong`, bytes);
  return `${path}.wrong`;
}

function layerOf({ plan }: ImportSite, index: number): LayerPlan {
  const layer = plan.layers[index];
  if (layer === undefined) throw new Error(`There is no layer ${index}`);
  return layer;
}

async function labelsOf(site: ImportSite, index: number): Promise<string> {
  const all = await site.containerd.ctr('content', 'ls');
  return all.split('\n').find((line) => line.startsWith(layerOf(site, index).descriptor.digest)) ?? '';
}
