import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { assert } from '../base/assert.ts';
import type { BlobKey } from '../base/blob-key.ts';
import { digestFromHex } from '../base/digest.ts';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';
import { encodeMetaRecord, type MetaRecord, MetaRecordType } from './blob-meta.ts';
import type { BlobPaths } from './blob-path.ts';
import { cacheError } from './cache-error.ts';
import type { BlobFiles } from './create-files.ts';
import { KeptReader } from './kept-reader.ts';
import { WriteQueue } from './write-queue.ts';

/**
 * What is known of one chunk. `claimed`: an earlier run of this process, or the file before it was adopted, had it
 * right; it is hashed again before anybody gets it. `verified`: hashed by this process.
 */
export const ChunkState = { Missing: 0, Claimed: 1, Verified: 2 } as const;
export type ChunkState = (typeof ChunkState)[keyof typeof ChunkState];

export interface CachedBlobInit {
  readonly key: BlobKey;
  readonly sizeBytes: number;
  readonly chunkSizeBytes: number;
  readonly paths: BlobPaths;
  readonly hashes?: ReadonlyMap<number, Uint8Array>;
  readonly confirmed?: boolean;
  readonly adoptedPath?: string | undefined;
  /** Of a blob that is new; else they are opened when they are wanted. */
  readonly files?: BlobFiles;
  readonly metaBytes: number;
  readonly lastUsedMs: number;
}

/** One blob's file and sidecar. Made and owned by DiskCache; writable only while it is pinned by a live pull. */
export class CachedBlob {
  readonly key: BlobKey;
  readonly sizeBytes: number;
  readonly chunkSizeBytes: number;
  readonly chunkCount: number;
  readonly paths: BlobPaths;
  /** Live pulls that need it. */
  pins = 0;
  lastUsedMs: number;
  /** When a peer had a chunk of it last. */
  lastServedMs = Number.NEGATIVE_INFINITY;
  /** Told of bytes that have come to stay. */
  onGrowth: ((bytes: number) => void) | undefined;
  /** Set once the cache has forgotten it: nothing is claimed or served any more. */
  dropped = false;
  #adoptedPath: string | undefined;
  #confirmed: boolean;
  #sealed = false;
  readonly #states: Uint8Array;
  readonly #hashes: (Uint8Array | undefined)[];
  #heldBytes = 0;
  #heldChunks = 0;
  #data: FileHandle | undefined;
  #meta: FileHandle | undefined;
  #metaBytes: number;
  readonly #writes = new WriteQueue();
  readonly #metaWrites = new WriteQueue();
  readonly #reader = new KeptReader();

  constructor(init: CachedBlobInit) {
    this.key = init.key;
    this.sizeBytes = init.sizeBytes;
    this.chunkSizeBytes = init.chunkSizeBytes;
    this.chunkCount = Math.ceil(init.sizeBytes / init.chunkSizeBytes);
    this.paths = init.paths;
    this.lastUsedMs = init.lastUsedMs;
    this.#adoptedPath = init.adoptedPath;
    this.#confirmed = init.confirmed ?? false;
    this.#metaBytes = init.metaBytes;
    this.#data = init.files?.data;
    this.#meta = init.files?.meta;
    this.#states = new Uint8Array(this.chunkCount);
    this.#hashes = new Array(this.chunkCount);
    for (const [chunk, hash] of init.hashes ?? []) this.#hold(chunk, hash, ChunkState.Claimed);
  }

  /** The file that has the bytes: the cache's own, or the adopted one. */
  get path(): string {
    return this.#adoptedPath ?? this.paths.data;
  }

  get adopted(): boolean {
    return this.#adoptedPath !== undefined;
  }

  /** Its digest was found right, it is sealed, or somebody else owns the file: no byte of it is ever written again. */
  get frozen(): boolean {
    return this.#confirmed || this.#sealed || this.adopted;
  }

  get complete(): boolean {
    return this.#heldChunks === this.chunkCount;
  }

  /** Its only chunk was hashed by this process, and that hash is the blob's digest. */
  get isProven(): boolean {
    const hash = this.#hashes[0];
    if (this.chunkCount !== 1 || hash === undefined || this.#states[0] !== ChunkState.Verified) return false;
    return digestFromHex(Buffer.from(hash).toString('hex')) === this.key.digest;
  }

  /** Bytes of the chunks that are held, verified or claimed. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** What dropping it would free: nothing when the file is somebody else's. */
  get ownBytes(): number {
    return this.adopted ? 0 : this.#heldBytes;
  }

  stateOf(chunk: number): ChunkState {
    return (this.#states[chunk] ?? ChunkState.Missing) as ChunkState;
  }

  hashOf(chunk: number): Uint8Array | undefined {
    return this.#hashes[chunk];
  }

  chunkBytes(chunk: number): number {
    return Math.min(this.chunkSizeBytes, this.sizeBytes - chunk * this.chunkSizeBytes);
  }

  /** Opens both files for writing. Called by DiskCache when the first live pull comes. */
  async openForWriting(): Promise<void> {
    if (this.frozen || this.#data !== undefined) return;
    try {
      const [data, meta] = await Promise.all([open(this.paths.data, 'r+'), open(this.paths.meta, 'r+')]);
      this.#data = data;
      this.#meta = meta;
    } catch (error) {
      throw cacheError('open cache file', this.paths.data, error);
    }
  }

  /** Closes what is open; pending reads and writes end first. */
  async closeHandles(): Promise<void> {
    const meta = this.#meta;
    this.#meta = undefined;
    await Promise.all([this.#closeData(), this.#metaWrites.settled()]);
    await meta?.close().catch(() => undefined);
  }

  /** Writes unverified bytes at their place. They count for nothing until `claim`. */
  async write(offsetBytes: number, pieces: readonly Uint8Array[]): Promise<void> {
    const handle = this.#data;
    assert(handle !== undefined && !this.frozen, 'a cache file is written to only while a pull is live');
    try {
      await this.#writes.write(handle, offsetBytes, pieces);
    } catch (error) {
      throw cacheError('write cache file', this.paths.data, error);
    }
  }

  /** Records that the chunk's bytes are in the file and have this hash. The bytes must have been written before. */
  async claim(chunk: number, hash: Uint8Array): Promise<void> {
    if (this.#states[chunk] === ChunkState.Verified || this.dropped) return;
    // Held at once: the record only matters to the next run, which reads the chunk again where it is missing.
    this.#hold(chunk, hash, ChunkState.Verified);
    this.onGrowth?.(this.chunkBytes(chunk));
    await this.#append({ type: MetaRecordType.Chunk, chunk, hash });
  }

  /** Takes back a claim: the bytes on disk do not have the hash. */
  async unclaim(chunk: number): Promise<void> {
    if (this.#states[chunk] === ChunkState.Missing) return;
    this.#states[chunk] = ChunkState.Missing;
    this.#hashes[chunk] = undefined;
    this.#heldBytes -= this.chunkBytes(chunk);
    this.#heldChunks -= 1;
    await this.#append({ type: MetaRecordType.Drop, chunk });
  }

  /** All chunks are there, and the file gets another name before its digest is known: what is being written comes to its end first. */
  async seal(): Promise<void> {
    assert(this.complete, 'only a complete file is sealed');
    await this.#writes.settled();
    this.#sealed = true;
    await this.#closeData();
  }

  async confirm(): Promise<void> {
    if (this.#confirmed || this.dropped) return;
    await this.#append({ type: MetaRecordType.Confirmed });
    this.#confirmed = true;
    await this.#closeData();
  }

  /** From now on the bytes are read from `path`, and each chunk is hashed once more before it is given to anybody. */
  async adoptPath(path: string): Promise<void> {
    await this.#append({ type: MetaRecordType.Adopted, path });
    this.#adoptedPath = path;
    for (let chunk = 0; chunk < this.chunkCount; chunk++)
      if (this.#states[chunk] === ChunkState.Verified) this.#states[chunk] = ChunkState.Claimed;
    await this.#closeData();
  }

  /**
   * Reads one held chunk into `buffer` and gives its length. A claimed chunk is hashed first.
   * @throws CacheCorrupt when the bytes are not there or do not have their hash; the claim is taken back then.
   */
  async readChunk(chunk: number, buffer: Uint8Array): Promise<number> {
    const hash = this.#hashes[chunk];
    if (hash === undefined || this.dropped) throw this.#corrupt(chunk, 'it is not held');
    const lengthBytes = this.chunkBytes(chunk);
    const bytes = buffer.subarray(0, lengthBytes);
    if (!(await this.#readAt(chunk * this.chunkSizeBytes, bytes))) {
      await this.unclaim(chunk);
      throw this.#corrupt(chunk, 'the file is shorter or gone');
    }
    if (this.#states[chunk] === ChunkState.Verified) return lengthBytes;
    if (!createHash('sha256').update(bytes).digest().equals(hash)) {
      await this.unclaim(chunk);
      throw this.#corrupt(chunk, 'the bytes on disk have another hash');
    }
    if (this.#states[chunk] === ChunkState.Claimed) this.#states[chunk] = ChunkState.Verified;
    return lengthBytes;
  }

  /** The sidecar stays open for what is still to be noted of the blob. */
  async #closeData(): Promise<void> {
    const data = this.#data;
    this.#data = undefined;
    await Promise.all([this.#writes.settled(), this.#reader.close()]);
    await data?.close().catch(() => undefined);
  }

  async #readAt(offsetBytes: number, bytes: Uint8Array): Promise<boolean> {
    const { path } = this;
    const handle = this.#data;
    try {
      if (handle === undefined) return await this.#reader.read(path, bytes, offsetBytes);
      return await this.#reader.readFrom({ path, handle }, bytes, offsetBytes);
    } catch (error) {
      if (nodeErrorCode(error) === 'ENOENT') return false;
      throw cacheError('read cache file', path, error);
    }
  }

  #hold(chunk: number, hash: Uint8Array, state: ChunkState): void {
    if (this.#states[chunk] === ChunkState.Missing) {
      this.#heldBytes += this.chunkBytes(chunk);
      this.#heldChunks += 1;
    }
    this.#states[chunk] = state;
    this.#hashes[chunk] = hash;
  }

  async #append(record: MetaRecord): Promise<void> {
    if (this.dropped) return;
    const bytes = encodeMetaRecord(record);
    const at = this.#metaBytes;
    this.#metaBytes += bytes.length;
    try {
      const shared = this.#meta;
      if (shared !== undefined) return await this.#metaWrites.write(shared, at, [bytes]);
      await using handle = await open(this.paths.meta, 'r+');
      await handle.write(bytes, 0, bytes.length, at);
    } catch (error) {
      throw cacheError('write cache index', this.paths.meta, error);
    }
  }

  #corrupt(chunk: number, state: string): ShoalError {
    return new ShoalError(
      ErrorCode.CacheCorrupt,
      `Cannot read chunk ${chunk} of cached "${this.key.digest}": ${state}`,
      { retriable: true },
    );
  }
}
