import { mkdir, unlink, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { assert } from '../base/assert.ts';
import { type BlobKey, blobKeyId } from '../base/blob-key.ts';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import { encodeMetaRecord, MetaRecordType } from './blob-meta.ts';
import { blobPathsOf, LAYOUT_VERSION } from './blob-path.ts';
import { cacheError, isDiskFailure } from './cache-error.ts';
import { CachedBlob } from './cached-blob.ts';
import { createFiles } from './create-files.ts';
import { isFileOfSize, recoverBlobs } from './recover.ts';
import { type EvictionReason, type RoomEvent, RoomKeeper } from './room-keeper.ts';
import type { WaterMarks } from './water-marks.ts';

/** The chunk size of the peer network. */
export const DEFAULT_CHUNK_SIZE_BYTES = 2 * 1024 * 1024;
export const DEFAULT_CAPACITY_BYTES = 4 * 1024 ** 3;
/** After the disk refused a write, nothing is cached for this long: pulls go to containerd at once instead of failing late. */
export const DISK_FAILURE_PAUSE_MS = 30_000;

export interface DiskCacheOptions {
  readonly directory: string;
  /** Bounds blobs that no live pull needs; live pulls come on top. Default 4 GiB. */
  readonly capacityBytes?: number;
  /** Default 2 MiB. A cache written with another chunk size is discarded at start. */
  readonly chunkSizeBytes?: number;
  /** How full the file system may be before idle blobs go; without them only the capacity counts. */
  readonly waterMarks?: WaterMarks;
  /** Told when blobs were dropped to make room, and when that is not enough. */
  readonly onRoom?: (event: RoomEvent) => void;
  /** Wall clock, ms. */
  readonly now?: () => number;
}

/**
 * Blobs on disk by (host, digest). Every method that touches the disk rejects with CacheUnavailable when the disk
 * does not do what is asked.
 */
export class DiskCache {
  readonly chunkSizeBytes: number;
  readonly capacityBytes: number;
  readonly #root: string;
  readonly #now: () => number;
  readonly #blobs = new Map<string, CachedBlob>();
  readonly #dropListeners = new Set<(key: BlobKey) => void>();
  readonly #room: RoomKeeper;
  #failure: { readonly error: ShoalError; readonly untilMs: number } | undefined;

  private constructor(options: DiskCacheOptions) {
    this.#root = options.directory;
    this.capacityBytes = options.capacityBytes ?? DEFAULT_CAPACITY_BYTES;
    this.chunkSizeBytes = options.chunkSizeBytes ?? DEFAULT_CHUNK_SIZE_BYTES;
    this.#now = options.now ?? Date.now;
    this.#room = new RoomKeeper({
      directory: options.directory,
      capacityBytes: this.capacityBytes,
      waterMarks: options.waterMarks,
      now: this.#now,
      blobs: () => this.#blobs,
      drop: (blob) => this.drop(blob),
      onEvent: options.onRoom,
    });
  }

  /** Opens the cache and takes up what an earlier process left in it. */
  static async open(options: DiskCacheOptions): Promise<DiskCache> {
    const cache = new DiskCache(options);
    try {
      await mkdir(join(cache.#root, LAYOUT_VERSION), { recursive: true, mode: 0o700 });
      for (const blob of await recoverBlobs(cache.#root, cache.chunkSizeBytes))
        cache.#blobs.set(blobKeyId(blob.key), blob);
      await cache.#room.trim();
    } catch (error) {
      await cache.close();
      throw cacheError('open cache', cache.#root, error);
    }
    return cache;
  }

  blobs(): IterableIterator<CachedBlob> {
    return this.#blobs.values();
  }

  get(key: BlobKey): CachedBlob | undefined {
    return this.#blobs.get(blobKeyId(key));
  }

  /** Where the blob's bytes are, or will be once it is pinned. */
  pathOf(key: BlobKey): string {
    return this.get(key)?.path ?? blobPathsOf(this.#root, key).data;
  }

  /** The disk's failure, while it is the reason not to cache. */
  get unavailable(): ShoalError | undefined {
    if (this.#failure !== undefined && this.#now() >= this.#failure.untilMs) this.#failure = undefined;
    return this.#failure?.error;
  }

  /** Bytes that the cache itself keeps on disk. */
  get ownBytes(): number {
    let sum = 0;
    for (const blob of this.#blobs.values()) sum += blob.ownBytes;
    return sum;
  }

  /** Bytes of blobs that were dropped to make room, by why. */
  get evictedBytes(): Readonly<Record<EvictionReason, number>> {
    return this.#room.evictedBytes;
  }

  /** How full the cache's file system is, 0 to 1, at most 10 s old; undefined without water marks. */
  get diskUsedRatio(): number | undefined {
    return this.#room.usedRatio;
  }

  /** Calls `listener` whenever a blob is forgotten: evicted, dropped, or gone from where it was adopted. */
  onDrop(listener: (key: BlobKey) => void): () => void {
    this.#dropListeners.add(listener);
    return () => this.#dropListeners.delete(listener);
  }

  /**
   * The blob for a live pull: protected from eviction and open for writing until `unpin`. Made when it is not there.
   * @throws CacheUnavailable
   */
  async pin(key: BlobKey, sizeBytes: number): Promise<CachedBlob> {
    if (this.unavailable !== undefined) throw this.unavailable;
    let blob = this.get(key);
    if (blob !== undefined && !(await this.#isUsable(blob, sizeBytes))) {
      await this.drop(blob);
      blob = undefined;
    }
    // Another pull may have made it while this one looked at the file.
    blob = this.get(key) ?? (await this.#guard(this.#create(key, sizeBytes)));
    blob.pins += 1;
    blob.lastUsedMs = this.#now();
    blob.onGrowth = (bytes) => this.#room.noteGrowth(bytes);
    try {
      await this.#guard(blob.openForWriting());
    } catch (error) {
      blob.pins -= 1;
      throw error;
    }
    return blob;
  }

  /** Ends what `pin` began. The last one closes the files, and makes room when idle blobs take too much. */
  async unpin(blob: CachedBlob): Promise<void> {
    assert(blob.pins > 0, 'a blob is unpinned as often as it was pinned');
    blob.pins -= 1;
    blob.lastUsedMs = this.#now();
    if (blob.pins > 0) return;
    await blob.closeHandles();
    if (blob.dropped) return;
    // Parts of chunks take room that is counted nowhere, and serve nobody.
    if (blob.heldBytes === 0 && !blob.complete) return this.drop(blob);
    if (blob.adopted) await removeFile(blob.paths.data);
    await this.#touch(blob);
    // On a full disk, what a failed pull leaves takes the room that the store needs for the same bytes.
    await (this.unavailable === undefined ? this.#room.trim() : this.dropIdle());
  }

  /** A peer has had a chunk of the blob: while that goes on, size alone does not evict it (`eviction.ts`). */
  noteServed(blob: CachedBlob): void {
    blob.lastUsedMs = this.#now();
    blob.lastServedMs = blob.lastUsedMs;
  }

  /**
   * Serves the blob from somebody else's file from now on and gives up the own name of it, at once or when the
   * last live pull ends. Without effect when the cache does not have the whole blob.
   * @throws CacheCorrupt when `path` is not a file of that size.
   */
  async adopt(key: BlobKey, path: string, sizeBytes: number): Promise<void> {
    const blob = this.get(key);
    if (blob === undefined || !blob.complete || blob.path === path) return;
    if (blob.sizeBytes !== sizeBytes || !(await isFileOfSize(path, sizeBytes)))
      throw new ShoalError(
        ErrorCode.CacheCorrupt,
        `Cannot adopt a file as "${key.digest}": there is no file of ${sizeBytes} bytes`,
      );
    await this.#guard(blob.adoptPath(path));
    if (blob.pins === 0) await removeFile(blob.paths.data);
  }

  /** Forgets the blob and removes its files. A live pull that still holds it writes into the void. */
  async drop(blob: CachedBlob): Promise<void> {
    if (blob.dropped) return;
    blob.dropped = true;
    this.#blobs.delete(blobKeyId(blob.key));
    for (const listener of this.#dropListeners) listener(blob.key);
    // The sidecar goes first: data without sidecar is removed at the next start, never trusted.
    await removeFile(blob.paths.meta);
    await removeFile(blob.paths.data);
    if (blob.pins === 0) await blob.closeHandles();
  }

  /** Drops everything that no live pull needs. Never rejects. */
  dropIdle(): Promise<void> {
    return this.#room.empty();
  }

  /** Tells the cache that a file operation failed: when the disk is at fault, idle blobs go and caching pauses. */
  noteFailure(error: unknown): void {
    if (!isDiskFailure(error) || this.#failure !== undefined) return;
    this.#failure = {
      error: cacheError('use cache', this.#root, error),
      untilMs: this.#now() + DISK_FAILURE_PAUSE_MS,
    };
    void this.dropIdle();
  }

  async close(): Promise<void> {
    await this.#room.close();
    for (const blob of this.#blobs.values()) await blob.closeHandles();
    this.#dropListeners.clear();
  }

  async #create(key: BlobKey, sizeBytes: number): Promise<CachedBlob> {
    const paths = blobPathsOf(this.#root, key);
    const header = encodeMetaRecord({
      type: MetaRecordType.Blob,
      key,
      sizeBytes,
      chunkSizeBytes: this.chunkSizeBytes,
    });
    const files = await createFiles(paths, sizeBytes, header).catch((error: unknown) => {
      throw cacheError('create cache file', paths.data, error);
    });
    const blob = new CachedBlob({
      key,
      sizeBytes,
      chunkSizeBytes: this.chunkSizeBytes,
      paths,
      files,
      metaBytes: header.length,
      lastUsedMs: this.#now(),
    });
    this.#blobs.set(blobKeyId(key), blob);
    return blob;
  }

  async #isUsable(blob: CachedBlob, sizeBytes: number): Promise<boolean> {
    if (blob.sizeBytes !== sizeBytes) return false;
    // What is missing could not be written to a file that is somebody else's too.
    if (blob.frozen && !blob.complete) return false;
    return isFileOfSize(blob.path, sizeBytes);
  }

  async #touch(blob: CachedBlob): Promise<void> {
    const at = new Date(blob.lastUsedMs);
    // Only the order of eviction after a restart depends on it.
    await utimes(blob.paths.meta, at, at).catch(() => undefined);
  }

  async #guard<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      this.noteFailure(error);
      throw error;
    }
  }
}

/** What cannot be removed, or is gone, is looked at again at the next start. */
async function removeFile(path: string): Promise<void> {
  await unlink(path).catch(() => undefined);
}
