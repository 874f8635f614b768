import { cpSync } from 'node:fs';
import { type ContainerdStore, openContainerdStore } from '../../../shim/containerd/containerd-store.ts';
import type { ImagePlan } from '../../../shim/store/image-store.ts';
import type { BuiltImage } from '../images/build-image.ts';
import { pushImage } from '../images/push-image.ts';
import { buildSampleImage, buildSandboxImage } from '../images/samples.ts';
import { type Containerd, type ContainerdOptions, startContainerd } from './containerd.ts';
import type { ContainerdVersion } from './containerd-config.ts';
import type { CrictlOptions } from './crictl.ts';
import { planOf } from './import-image.ts';
import { type Registry, startRegistry } from './registry.ts';
import { makeTemporaryRoot } from './temporary-root.ts';

export const testedVersion = (process.env.CONTAINERD ?? '2.1') as ContainerdVersion;

export interface ImportSite extends AsyncDisposable {
  readonly registry: Registry;
  readonly image: BuiltImage;
  readonly reference: string;
  readonly containerd: Containerd;
  readonly cri: CrictlOptions;
  readonly store: ContainerdStore;
  readonly plan: ImagePlan;
  /** A private copy of a blob on the file system of containerd's root. */
  blobPath(digest: string): string;
}

export interface ImportSiteOptions extends ContainerdOptions {
  /** Default: three layers (busybox, 2 MB, 500 kB), gzip, zstd and plain tar, below an index. */
  readonly image?: BuiltImage;
}

/** A registry that has an image, a containerd that has not, and our store in front of that containerd. */
export async function startImportSite({
  image: given,
  ...options
}: ImportSiteOptions = {}): Promise<ImportSite> {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(await startRegistry());
  const sandbox = stack.use(await buildSandboxImage());
  const image = stack.use(given ?? (await defaultImage()));
  const target = { host: registry.host, tag: 'v1' };
  const sandboxImage = (await pushImage(sandbox, { ...target, repository: 'pause' })).reference;
  const { reference } = await pushImage(image, { ...target, repository: 'team/app' });
  const containerd = stack.use(await startContainerd({ version: testedVersion, sandboxImage, ...options }));
  const store = await openContainerdStore({ socket: containerd.socket });
  stack.defer(() => store.close());
  const folder = stack.use(makeTemporaryRoot('blobs'));
  cpSync(image.directory, folder.path, { recursive: true });
  const owned = stack.move();
  return {
    registry,
    image,
    reference,
    containerd,
    cri: { endpoint: containerd.socket },
    store,
    plan: planOf(image, { ...target, repository: 'team/app' }),
    blobPath: (digest) => `${folder.path}/blobs/sha256/${digest.slice('sha256:'.length)}`,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function defaultImage(): Promise<BuiltImage> {
  return buildSampleImage({
    layerSizesBytes: [2_000_000, 500_000],
    compression: ['gzip', 'zstd', 'none'],
    indexed: true,
  });
}

/** What containerd holds, as sorted lines: names, digests, keys. Empty lists when there is nothing left. */
export async function containerdState(containerd: Containerd) {
  const lines = async (...args: string[]) =>
    (await containerd.ctr(...args))
      .split('\n')
      .filter((line) => line.trim() !== '')
      .sort();
  const [images, blobs, snapshots, leases, ingests] = await Promise.all([
    lines('images', 'ls', '-q'),
    lines('content', 'ls', '-q'),
    lines('snapshots', 'tree'),
    lines('leases', 'ls', '-q'),
    lines('content', 'active'),
  ]);
  // The list of ingests has a head line.
  return { images, blobs, snapshots, leases, ingests: ingests.filter((line) => !line.startsWith('REF')) };
}
