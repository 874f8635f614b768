// time limit: 120 s
import { cpSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openContainerdStore } from '../../shim/containerd/containerd-store.ts';
import { pushImage } from '../support/images/push-image.ts';
import { buildSampleImage, buildSandboxImage } from '../support/images/samples.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { startContainerd } from '../support/real/containerd.ts';
import type { ContainerdVersion } from '../support/real/containerd-config.ts';
import { runContainer } from '../support/real/crictl.ts';
import { addMissingLayers, planOf } from '../support/real/import-image.ts';
import { startRegistry } from '../support/real/registry.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';

const version = (process.env.CONTAINERD ?? '2.1') as ContainerdVersion;
const signal = new AbortController().signal;

if (canRun(containerdSkipReason(version, 'crictl-go'))) {
  test('an imported image is what CRI shows and a container runs from', async () => {
    await using site = await startSite();
    const { containerd, plan, image, cri, store, blobs } = site;
    const session = await store.open(plan, signal);
    assert.is(session.treeMode, 'overlay');
    assert.equal([...session.missing], [0, 1, 2]);
    const stored = await addMissingLayers(session, plan, blobs, signal);
    assert.is(stored.length, 3);
    assert.is(await session.finish(signal), image.config.digest);
    const result = await runContainer(cri, {
      image: site.reference,
      command: ['/bin/sh', '-c', 'stat -c %s /data/0'],
    });
    assert.equal([result.exitCode, result.output], [0, `2000000\n`]);
  });
}

test.run();

async function startSite() {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(await startRegistry());
  const sandbox = stack.use(await buildSandboxImage());
  const image = stack.use(
    await buildSampleImage({
      layerSizesBytes: [2_000_000, 500_000],
      compression: ['gzip', 'zstd', 'none'],
      indexed: true,
    }),
  );
  const target = { host: registry.host, tag: 'v1' };
  const sandboxImage = (await pushImage(sandbox, { ...target, repository: 'pause' })).reference;
  const { reference } = await pushImage(image, { ...target, repository: 'team/app' });
  const containerd = stack.use(await startContainerd({ version, sandboxImage }));
  const store = await openContainerdStore({ socket: containerd.socket });
  stack.defer(() => store.close());
  const folder = stack.use(makeTemporaryRoot('blobs'));
  cpSync(image.directory, folder.path, { recursive: true });
  const blobs = (digest: string) => `${folder.path}/blobs/sha256/${digest.slice(7)}`;
  const plan = planOf(image, { host: registry.host, repository: 'team/app', tag: 'v1' });
  const owned = stack.move();
  return {
    registry,
    image,
    reference,
    containerd,
    store,
    plan,
    blobs,
    cri: { endpoint: containerd.socket },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
