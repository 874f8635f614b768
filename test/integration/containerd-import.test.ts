// time limit: 120 s
import { statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { startContainerd } from '../support/real/containerd.ts';
import { pull, runContainer, runCrictl } from '../support/real/crictl.ts';
import { addMissingLayers } from '../support/real/import-image.ts';
import {
  containerdState,
  type ImportSite,
  startImportSite,
  testedVersion,
} from '../support/real/import-site.ts';

const signal = new AbortController().signal;
/** containerd collects garbage in the background. */
const COLLECTION_WAIT_MS = 10_000;
const EMPTY = { images: [], blobs: [], snapshots: [], leases: [], ingests: [] };

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test('an imported image is what CRI shows and a container runs from', async () => {
    await using site = await startImportSite();
    const { containerd, plan, image, cri, store } = site;
    const session = await store.open(plan, signal);
    assert.equal([session.treeMode, session.finishedBy, ...session.missing], ['overlay', 'shoal', 0, 1, 2]);
    const stored = await addMissingLayers(session, plan, site.blobPath, signal);
    assert.is(await session.finish(signal), image.config.digest);
    const { image: shown } = await runCrictl<{ image: CriImage }>(cri, 'inspecti', site.reference);
    assert.is(shown.id, image.config.digest);
    assert.equal([...shown.repoTags, ...shown.repoDigests].sort(), [...plan.names].sort());
    const checked = await containerd.ctr('images', 'check');
    assert.is(checked.match(/complete \(4\/4\).*true/g)?.length, 3);
    assert.equal((await containerdState(containerd)).leases, []);
    const command = ['/bin/sh', '-c', 'stat -c %s /data/0'];
    const result = await runContainer(cri, { image: site.reference, command });
    assert.equal([result.exitCode, result.output], [0, '2000000\n']);
    for (const [index, path] of stored.entries())
      assertSameFile(path, site.blobPath(layerDigest(site, index)));
  });

  test('an imported image has the labels and records of one that containerd pulled', async () => {
    await using site = await startImportSite();
    await importImage(site);
    await using rival = await startContainerd({ version: testedVersion });
    await pull({ endpoint: rival.socket }, site.reference);
    const labels = async (containerd: typeof rival) => {
      const all = await containerd.ctr('content', 'ls');
      // Ours alone: the host with its port.
      return all
        .replace(/^DIGEST.*/m, '')
        .replace(/,shoal\.io\/[^,\n]*/g, '')
        .replace(/\t[^\t\n]*(second|minute)s?( ago)?/g, '')
        .replace(/\t+/g, '\t')
        .split('\n')
        .sort();
    };
    assert.equal(await labels(site.containerd), await labels(rival));
    const records = async (containerd: typeof rival) =>
      (await containerd.ctr('images', 'ls')).replace(/ +/g, ' ').split('\n').sort();
    assert.equal(await records(site.containerd), await records(rival));
    const { snapshots } = await containerdState(rival);
    assert.equal((await containerdState(site.containerd)).snapshots, snapshots);
  });

  test('containerd finds nothing to fetch when it pulls an imported image, and rmi frees everything', async () => {
    await using site = await startImportSite();
    await importImage(site);
    const before = site.registry.accessLog().length;
    await pull(site.cri, site.reference);
    const requests = site.registry.accessLog().slice(before);
    assert.equal(
      requests.filter((line) => /"GET .*\/blobs\//.test(line)),
      [],
    );
    await runCrictl(site.cri, 'rmi', site.reference);
    await waitForState(site, EMPTY);
  });

  test('a second pull from the same host needs no layer; one from another host needs all', async () => {
    await using site = await startImportSite();
    await importImage(site);
    const again = await site.store.open(site.plan, signal);
    assert.equal([...again.missing], []);
    await again.finish(signal);
    const elsewhere = { ...site.plan, host: '127.0.0.1:1', names: ['127.0.0.1:1/team/app:v1'] };
    const other = await site.store.open(elsewhere, signal);
    assert.equal([...other.missing], [0, 1, 2]);
    await addMissingLayers(other, elsewhere, site.blobPath, signal);
    await other.finish(signal);
    assert.equal([...(await site.store.open(elsewhere, signal)).missing], []);
  });

  test('a config that claims the diff IDs of somebody else gets none of his trees', async () => {
    await using site = await startImportSite();
    await importImage(site);
    const layers = site.plan.layers.map((layer) => ({ ...layer, descriptor: site.plan.config.descriptor }));
    const session = await site.store.open({ ...site.plan, layers }, signal);
    assert.equal([...session.missing], [0, 1, 2]);
  });

  test('a pinned record stays pinned when its image is imported again', async () => {
    await using site = await startImportSite();
    const tag = site.plan.names[1] as string;
    await importImage(site);
    await site.containerd.ctr('images', 'label', tag, 'io.cri-containerd.pinned=pinned');
    await importImage(site);
    assert.match(
      await site.containerd.ctr('images', 'ls', `name==${tag}`),
      'io.cri-containerd.pinned=pinned',
    );
  });

  test('an abort takes everything back, and later calls fail', async () => {
    await using site = await startImportSite();
    const session = await site.store.open(site.plan, signal);
    await session.stagingDirectory(2, signal);
    const some = { ...session, missing: new Set([0, 1]), treeMode: session.treeMode };
    const partly = Object.assign(Object.create(session), some);
    await addMissingLayers(
      {
        ...partly,
        addLayer: session.addLayer.bind(session),
        stagingDirectory: session.stagingDirectory.bind(session),
      },
      site.plan,
      site.blobPath,
      signal,
    );
    await session.abort();
    await session.abort();
    await assertRejects(session.finish(signal), 'CANCELLED');
    await waitForState(site, EMPTY);
  });

  test('import and containerd pull of the same image at the same time both succeed', async () => {
    await using site = await startImportSite();
    await Promise.all([pull(site.cri, site.reference), importImage(site), importImage(site)]);
    const { leases, ingests, snapshots, images } = await containerdState(site.containerd);
    assert.equal([leases, ingests, snapshots.length, images.length], [[], [], 3, 3]);
  });

  test('containerd killed in the middle: the import fails as unavailable, the next one works', async () => {
    await using site = await startImportSite();
    const session = await site.store.open(site.plan, signal);
    await addMissingLayers(session, site.plan, site.blobPath, signal);
    await site.containerd.kill('SIGKILL');
    await assertRejects(session.finish(signal), 'STORE_UNAVAILABLE');
    await session.abort();
    await site.containerd.start();
    await importImage(site);
    assert.ok((await containerdState(site.containerd)).images.length >= 3);
  });
}

test.run();

interface CriImage {
  readonly id: string;
  readonly repoTags: string[];
  readonly repoDigests: string[];
}

async function importImage({ store, plan, blobPath }: ImportSite): Promise<void> {
  const session = await store.open(plan, signal);
  await addMissingLayers(session, plan, blobPath, signal);
  await session.finish(signal);
}

async function waitForState(site: ImportSite, wanted: object): Promise<void> {
  const deadlineMs = performance.now() + COLLECTION_WAIT_MS;
  for (;;) {
    const state = await containerdState(site.containerd);
    if (JSON.stringify(state) === JSON.stringify(wanted) || performance.now() > deadlineMs)
      return assert.equal(state, wanted);
    await sleep(100);
  }
}

async function assertRejects(promise: Promise<unknown>, code: string): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.is((error as { code?: string } | undefined)?.code, code);
}

function layerDigest({ plan }: ImportSite, index: number): string {
  return plan.layers[index]?.descriptor.digest ?? '';
}

function assertSameFile(one: string | undefined, other: string): void {
  assert.is(statSync(one ?? '').ino, statSync(other).ino);
}
