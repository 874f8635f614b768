// time limit: 120 s
import { cpSync, readFileSync, statSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlobStore } from '../../shim/containerd/blob-store.ts';
import { ContainerdClient } from '../../shim/containerd/containerd-client.ts';
import { openContainerdStore } from '../../shim/containerd/containerd-store.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { pull, runContainer } from '../support/real/crictl.ts';
import { fileSystemSkipReason, loopFileSystem } from '../support/real/file-system.ts';
import { addMissingLayers, planOf } from '../support/real/import-image.ts';
import {
  containerdState,
  type ImportSite,
  startImportSite,
  testedVersion,
} from '../support/real/import-site.ts';

const signal = new AbortController().signal;
/** containerd 2.x pulls only for snapshotters that are named here. */
const platform = `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`;
const unpackConfig = [{ platform, snapshotter: 'native', differ: 'walking' }];
const nativeUnpack = { plugins: { 'io.containerd.transfer.v1.local': { unpack_config: unpackConfig } } };

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test('importFile() links where it can, copies to another file system, and sends where it sees no ingest', async () => {
    await using site = await startImportSite();
    await using disk = await loopFileSystem(64 * 2 ** 20, 'tmpfs');
    cpSync(site.image.directory, disk.path, { recursive: true });
    using client = disposable(new ContainerdClient(site.containerd.socket, 'k8s.io'));
    const contentRoot = `${site.containerd.root}/io.containerd.content.v1.content`;
    const elsewhere = (digest: string) => `${disk.path}/blobs/sha256/${digest.slice(7)}`;
    const cases = [
      { route: 'linked', blobs: new BlobStore(client, contentRoot), path: site.blobPath },
      { route: 'copied', blobs: new BlobStore(client, contentRoot), path: elsewhere },
      { route: 'sent', blobs: new BlobStore(client, undefined), path: site.blobPath },
    ];
    for (const [index, { route, blobs, path }] of cases.entries()) {
      const { digest, sizeBytes } = layerOf(site, index);
      const before = statSync(path(digest));
      const request = {
        digest,
        sizeBytes,
        ref: `test-${index}`,
        lease: await aLease(site),
        labels: () => ({ a: 'b' }),
      };
      assert.is(await blobs.importFile(request, path(digest), signal), route);
      assert.is(await blobs.importFile(request, path(digest), signal), 'present');
      const stored = `${contentRoot}/blobs/sha256/${digest.slice(7)}`;
      assert.equal(readFileSync(stored), readFileSync(path(digest)));
      assert.is(
        statSync(stored).ino === before.ino && statSync(stored).dev === before.dev,
        route === 'linked',
      );
    }
    assert.equal((await containerdState(site.containerd)).ingests, []);
  });

  test('importFile() refuses a file with other bytes, and leaves it as it is', async () => {
    await using site = await startImportSite();
    using client = disposable(new ContainerdClient(site.containerd.socket, 'k8s.io'));
    const blobs = new BlobStore(client, `${site.containerd.root}/io.containerd.content.v1.content`);
    const [one, other] = [layerOf(site, 0), layerOf(site, 1)];
    const request = { ...one, ref: 'test-wrong', lease: await aLease(site), labels: () => ({}) };
    const before = readFileSync(site.blobPath(other.digest));
    const error = await blobs
      .importFile(request, site.blobPath(other.digest), signal)
      .catch((reason: unknown) => reason);
    assert.match((error as { code: string }).code, /STORE_FAILED|SIZE_MISMATCH/);
    assert.equal(readFileSync(site.blobPath(other.digest)), before);
    assert.is(await blobs.info(one.digest, signal), undefined);
  });

  test('an image for the native snapshotter is unpacked by containerd, which fetches no layer', async () => {
    await using site = await startImportSite({
      snapshotter: 'native',
      ...(testedVersion !== '1.7' && { extraConfig: nativeUnpack }),
    });
    const session = await site.store.open(site.plan, signal);
    assert.equal([session.treeMode, session.finishedBy], ['none', 'containerd']);
    await addMissingLayers(session, site.plan, site.blobPath, signal);
    await session.finish(signal);
    const before = site.registry.accessLog().length;
    await pull(site.cri, site.reference);
    await session.abort();
    const requests = site.registry.accessLog().slice(before);
    assert.equal(
      requests.filter((line) => /"GET .*\/blobs\//.test(line)),
      [],
    );
    const result = await runContainer(site.cri, { image: site.reference, command: ['/bin/true'] });
    assert.is(result.exitCode, 0);
    assert.equal((await containerdState(site.containerd)).leases, []);
  });

  test('with discarded layers only trees are kept, and a second pull needs nothing', async () => {
    await using site = await startImportSite();
    const options = { socket: site.containerd.socket, discardUnpackedLayers: true };
    const store = await openContainerdStore(options);
    try {
      const session = await store.open(site.plan, signal);
      assert.equal(await addMissingLayers(session, site.plan, site.blobPath, signal), [
        undefined,
        undefined,
        undefined,
      ]);
      await session.finish(signal);
      assert.is((await containerdState(site.containerd)).blobs.length, 3);
      assert.equal([...(await store.open(site.plan, signal)).missing], []);
      const elsewhere = planOf(site.image, { host: 'elsewhere.test', repository: 'a', tag: 'b' });
      assert.equal([...(await store.open(elsewhere, signal)).missing], [0, 1, 2]);
    } finally {
      await store.close();
    }
  });

  if (canRun(fileSystemSkipReason('tmpfs'))) {
    test('a staging root on another file system is refused', async () => {
      await using site = await startImportSite();
      await using disk = await loopFileSystem(2 ** 20, 'tmpfs');
      const options = { socket: site.containerd.socket, stagingRoot: disk.path };
      const error = await openContainerdStore(options).catch((reason: unknown) => reason);
      assert.is((error as { code: string }).code, 'CONFIG_INVALID');
    });
  }
}

test('openContainerdStore() fails as unavailable where nothing listens', async () => {
  const error = await openContainerdStore({ socket: '/nonexistent/containerd.sock' }).catch(
    (reason: unknown) => reason,
  );
  assert.is((error as { code: string }).code, 'STORE_UNAVAILABLE');
});

test.run();

function layerOf({ plan }: ImportSite, index: number) {
  const layer = plan.layers[index];
  if (layer === undefined) throw new Error(`no layer ${index}`);
  return { digest: layer.descriptor.digest, sizeBytes: layer.descriptor.sizeBytes };
}

let leases = 0;
async function aLease({ containerd }: ImportSite): Promise<string> {
  leases += 1;
  await containerd.ctr('leases', 'create', '--id', `lease-${leases}`);
  return `lease-${leases}`;
}

function disposable(client: ContainerdClient): ContainerdClient & Disposable {
  return Object.assign(client, { [Symbol.dispose]: () => client.close() });
}
