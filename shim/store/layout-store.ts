import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, copyFile, link, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { InvariantError } from '../base/assert.ts';
import { blobKeyId } from '../base/blob-key.ts';
import type { RawDocument } from '../base/descriptor.ts';
import { type Digest, hexOf } from '../base/digest.ts';
import { type DirectoryLock, lockDirectory } from '../base/directory-lock.ts';
import { syncFile, TEMPORARY_SUFFIX, writeFileDurably } from '../base/durable-file.ts';
import { ErrorCode, nodeErrorCode, ShoalError, throwIfAborted } from '../base/errors.ts';
import type { ImagePlan, ImageStore, ImportSession, ReadyLayer, WarmSession } from './image-store.ts';
import { LayoutIndex } from './layout-index.ts';

/**
 * An OCI image layout directory (OCI image spec, "Image Layout") plus one unpacked root file system an image under
 * `rootfs/<config digest>`. Needs no daemon and no root.
 */
export class LayoutStore implements ImageStore {
  readonly kind = 'layout';
  readonly directory: string;
  readonly #index: LayoutIndex;
  readonly #lock: DirectoryLock;

  private constructor(directory: string, index: LayoutIndex, lock: DirectoryLock) {
    this.directory = directory;
    this.#index = index;
    this.#lock = lock;
  }

  /** Makes or opens the layout and sweeps what a crash left behind. @throws StoreUnavailable, StoreFailed */
  static async open(directory: string): Promise<LayoutStore> {
    const lock = await takeLayout(directory);
    try {
      await prepareLayout(directory);
      return new LayoutStore(directory, await LayoutIndex.open(directory), lock);
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#lock.release();
  }

  async open(plan: ImagePlan, signal: AbortSignal): Promise<ImportSession> {
    throwIfAborted(signal, 'open the image layout');
    return new LayoutSession(this, this.#index, plan, await this.#missing(plan));
  }

  /** A root is merged from all layers at once, so that warm layers are of use in the cache alone. */
  async openWarm(plan: ImagePlan, signal: AbortSignal): Promise<WarmSession> {
    throwIfAborted(signal, 'open the image layout');
    return new CachedLayersSession(await this.#missing(plan));
  }

  async has(name: string): Promise<boolean> {
    return this.#index.hasName(name);
  }

  async #missing(plan: ImagePlan): Promise<ReadonlySet<number>> {
    const missing = new Set<number>();
    const rooted = await exists(this.rootPath(plan.config.descriptor.digest));
    for (const [index, layer] of plan.layers.entries()) {
      const key = { host: plan.host, digest: layer.descriptor.digest };
      const present = this.#index.hasSource(blobKeyId(key)) && (await exists(this.blobPath(key.digest)));
      if (!rooted || !present) missing.add(index);
    }
    return missing;
  }

  blobPath(digest: Digest): string {
    return join(this.directory, 'blobs', 'sha256', hexOf(digest));
  }

  rootPath(configDigest: Digest): string {
    return join(this.directory, 'rootfs', hexOf(configDigest));
  }

  stagingPath(id: string): string {
    return join(this.directory, STAGING, id);
  }
}

/** Emptied at every start; one directory an import in it. */
const STAGING = '.staging';

class LayoutSession implements ImportSession {
  readonly treeMode = 'merge';
  readonly finishedBy = 'shoal';
  readonly missing: ReadonlySet<number>;
  readonly #store: LayoutStore;
  readonly #index: LayoutIndex;
  readonly #plan: ImagePlan;
  readonly #staging: string;

  constructor(store: LayoutStore, index: LayoutIndex, plan: ImagePlan, missing: ReadonlySet<number>) {
    this.#store = store;
    this.#index = index;
    this.#plan = plan;
    this.#staging = store.stagingPath(randomUUID());
    this.missing = missing;
  }

  async stagingDirectory(_index: number, signal: AbortSignal): Promise<string> {
    throwIfAborted(signal, 'stage a layer');
    await mkdir(this.#staging, { recursive: true, mode: 0o700 });
    return this.#staging;
  }

  async addLayer(index: number, layer: ReadyLayer, signal: AbortSignal): Promise<string | undefined> {
    throwIfAborted(signal, 'store a layer');
    const digest = this.#plan.layers[index]?.descriptor.digest;
    if (digest === undefined) return undefined;
    const path = this.#store.blobPath(digest);
    try {
      await placeBlob(layer.blobPath, path, this.#store.stagingPath(randomUUID()));
    } catch (error) {
      throw storeError('store layer', digest, error);
    }
    return path;
  }

  async finish(signal: AbortSignal): Promise<Digest> {
    throwIfAborted(signal, 'finish the image');
    const { config, manifest, index, layers, host } = this.#plan;
    try {
      for (const document of [config, manifest, index]) await this.#writeDocument(document);
      await this.#placeRoot(config.descriptor.digest);
    } catch (error) {
      throw storeError('finish image', this.#plan.names[0] ?? config.descriptor.digest, error);
    }
    await this.#index.add({
      names: this.#plan.names,
      target: this.#plan.target,
      sources: layers.map((layer) => blobKeyId({ host, digest: layer.descriptor.digest })),
    });
    return config.descriptor.digest;
  }

  async abort(): Promise<void> {
    await rm(this.#staging, { recursive: true, force: true });
  }

  async #writeDocument(document: RawDocument | undefined): Promise<void> {
    if (document === undefined) return;
    const path = this.#store.blobPath(document.descriptor.digest);
    if (!(await exists(path))) await writeFileDurably(path, document.bytes);
  }

  /** An image without layers, or one whose root another pull has just placed, has nothing staged. */
  async #placeRoot(configDigest: Digest): Promise<void> {
    const root = this.#store.rootPath(configDigest);
    if (await exists(root)) return this.abort();
    await mkdir(this.#staging, { recursive: true, mode: 0o700 });
    await chmod(this.#staging, 0o755);
    try {
      await rename(this.#staging, root);
    } catch (error) {
      if (!['ENOTEMPTY', 'EEXIST'].includes(nodeErrorCode(error) ?? '')) throw error;
      await this.abort();
    }
  }
}

/** Layers that are fetched, checked, and left to the cache. */
class CachedLayersSession implements WarmSession {
  readonly treeMode = 'none';
  readonly missing: ReadonlySet<number>;

  constructor(missing: ReadonlySet<number>) {
    this.missing = missing;
  }

  async stagingDirectory(): Promise<never> {
    throw new InvariantError('a session without trees is asked for no staging directory');
  }

  async addLayer(): Promise<undefined> {}

  async hold(): Promise<void> {}

  async abort(): Promise<void> {}
}

/** Makes the directories, and removes what a crash left half-written. */
async function prepareLayout(directory: string): Promise<void> {
  const blobs = join(directory, 'blobs', 'sha256');
  try {
    await mkdir(blobs, { recursive: true });
    await mkdir(join(directory, 'rootfs'), { recursive: true });
    await rm(join(directory, STAGING), { recursive: true, force: true });
    await mkdir(join(directory, STAGING), { mode: 0o700 });
    for (const place of [directory, blobs]) await removeTemporaryFiles(place);
  } catch (error) {
    throw storeError('open image layout', directory, error);
  }
}

async function removeTemporaryFiles(directory: string): Promise<void> {
  for (const name of await readdir(directory))
    if (name.endsWith(TEMPORARY_SUFFIX)) await rm(join(directory, name), { force: true });
}

async function takeLayout(directory: string): Promise<DirectoryLock> {
  const lock = await lockDirectory(directory).catch((error: unknown) => {
    throw storeError('open image layout', directory, error);
  });
  if (lock !== undefined) return lock;
  throw new ShoalError(
    ErrorCode.StoreUnavailable,
    `Cannot open image layout "${directory}": another process has it open`,
  );
}

/**
 * One inode for cache and store where the file system allows; else a copy that appears under its name when whole.
 * `partial` is a name that the next start sweeps.
 */
async function placeBlob(from: string, to: string, partial: string): Promise<void> {
  if (from === to || (await exists(to))) return;
  try {
    await link(from, partial);
  } catch (error) {
    if (!['EXDEV', 'EPERM', 'EMLINK', 'ENOTSUP'].includes(nodeErrorCode(error) ?? '')) throw error;
    await copyFile(from, partial, constants.COPYFILE_FICLONE);
  }
  await syncFile(partial);
  await rename(partial, to);
  // POSIX rename of two names of one inode does nothing and leaves both names.
  await rm(partial, { force: true });
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

function storeError(doing: string, what: string, cause: unknown): ShoalError {
  const found = nodeErrorCode(cause) ?? 'failed';
  return new ShoalError(ErrorCode.StoreFailed, `Cannot ${doing} "${what}": ${found}`, { cause });
}
