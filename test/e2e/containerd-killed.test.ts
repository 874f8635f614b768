// time limit: 150 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ImportSession } from '../../shim/store/image-store.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import {
  assertNothingLeft,
  eventually,
  failureOf,
  startNodeSite,
  startOriginSite,
} from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import type { Containerd } from '../support/real/containerd.ts';
import { pull } from '../support/real/crictl.ts';
import { unpackForSession } from '../support/real/import-image.ts';
import {
  containerdState,
  type ImportSite,
  startImportSite,
  testedVersion,
} from '../support/real/import-site.ts';

const MB = 1_000_000;
const signal = new AbortController().signal;
const EMPTY = { images: [], blobs: [], snapshots: [], leases: [], ingests: [] };
const LAYERS = [3 * MB, 3 * MB, 3 * MB];
const RATE_BYTES_PER_SECOND = 8 * MB;

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  for (const afterBytes of [1 * MB, 4 * MB, 8 * MB])
    test(`containerd killed ${afterBytes} bytes into a pull: nothing is left soon after its return`, async () => {
      await using origin = await startOriginSite({ rateBytesPerSecond: RATE_BYTES_PER_SECOND });
      await using node = await startNodeSite();
      using image = await buildSampleImage({ layerSizesBytes: LAYERS, seed: `killed ${afterBytes}` });
      const { reference } = await origin.push(image, 'team/app');
      const failed = failureOf(pull({ ...node.cri, timeoutMs: 20_000 }, reference));
      await eventually(
        () => origin.gate.count({ class: 'blob' }).bytes,
        (bytes) => bytes >= afterBytes,
      );
      await node.containerd.kill('SIGKILL');
      assert.is((await failed).code, 'Unavailable');
      await node.containerd.start();
      await assertAllGone(node.containerd);
      assert.is(await pull(node.cri, reference), image.config.digest);
      await assertNothingLeft(node);
      assert.match(await node.containerd.ctr('images', 'check'), /complete/);
    });

  test('a session that outlives a kill of containerd keeps its lease, blobs and snapshots while others are swept', async () => {
    await using site = await startImportSite();
    const [live, dead] = [await site.store.open(site.plan, signal), await site.store.open(site.plan, signal)];
    for (const session of [live, dead]) await bring(site, session, 0);
    const before = await containerdState(site.containerd);
    assert.is(before.leases.length, 2);
    await site.containerd.kill('SIGKILL');
    await dead.abort();
    await site.containerd.start();
    const after = await eventually(
      () => containerdState(site.containerd),
      ({ leases }) => leases.length < 2,
    );
    assert.is(after.leases.length, 1);
    assert.equal([after.blobs, after.snapshots], [before.blobs, before.snapshots]);
    for (const index of [1, 2]) await bring(site, live, index);
    await live.finish(signal);
    assert.is((await containerdState(site.containerd)).images.length, 3);
    assert.match(await site.containerd.ctr('images', 'check'), /complete/);
  });
}

test.run();

async function assertAllGone(containerd: Containerd): Promise<void> {
  const left = await eventually(
    () => containerdState(containerd),
    (state) => Object.values(state).every((lines) => lines.length === 0),
  );
  assert.equal(left, EMPTY);
}

async function bring({ plan, blobPath }: ImportSite, session: ImportSession, index: number): Promise<void> {
  const layer = plan.layers[index];
  if (layer === undefined) throw new Error(`no layer ${index}`);
  const path = blobPath(layer.descriptor.digest);
  await session.addLayer(index, await unpackForSession(session, index, layer, path, signal), signal);
}
