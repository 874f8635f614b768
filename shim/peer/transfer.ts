import type { Readable } from 'node:stream';
import type { BlobKey } from '../base/blob-key.ts';
import type { ReadRight } from './read-right.ts';

/**
 * Reads ranges of one blob at its registry with the credentials of the pull that wants it.
 * The stream gives exactly `lengthBytes` unverified bytes, or fails with a ShoalError.
 */
export type ReadOrigin = (
  range: { readonly offsetBytes: number; readonly lengthBytes: number },
  signal: AbortSignal,
) => Promise<Readable>;

export interface TransferRequest {
  readonly key: BlobKey;
  readonly sizeBytes: number;
  readonly readOrigin: ReadOrigin;
}

/** Where the bytes of one transfer came from so far. */
export interface TransferCounts {
  readonly originBytes: number;
  readonly peerBytes: number;
  /** Bytes that were in the cache before this pull asked. */
  readonly cacheBytes: number;
}

/**
 * Moves blobs into files of the disk cache, from the cache itself, from peers, and from the origin.
 * The same blob wanted by two pulls at once is fetched once.
 */
export interface TransferEngine {
  /** Starts or joins the fetch of one blob. Never rejects: failures come through `Transfer.finished`. */
  open(request: TransferRequest): Transfer;
  /**
   * Tells that this node could read the blob at its registry just now. Peers that show the same right may have it from
   * here, and this node shows it to them; without it each peer has to be convinced by reading pieces of the blob.
   */
  learnRight(key: BlobKey, right: ReadRight): void;
  /**
   * Tells that the blob now also lives in a file that somebody else owns (containerd's blob, same inode or a copy):
   * peers are served from `path` from now on and the cache drops its own name of it.
   */
  adopt(key: BlobKey, path: string, sizeBytes: number): Promise<void>;
  close(): Promise<void>;
}

/** One consumer's view of a blob on its way. Must be released exactly once. */
export interface Transfer {
  readonly key: BlobKey;
  readonly sizeBytes: number;
  /**
   * The file that is being filled; readable by this process once the prefix has grown or `finished` has resolved.
   * Bytes past the prefix may be holes.
   */
  readonly path: string;
  /** Bytes `[0, prefixBytes)` of the file have matched their chunk hashes. Never shrinks, except by `distrust`. */
  readonly prefixBytes: number;
  /** Whether the blob's own digest was found right as its bytes came: a blob of one chunk has that for its chunk's hash. */
  readonly isProven: boolean;
  readonly counts: TransferCounts;
  /**
   * The consumer has used the first so many bytes. From its first call on, to be made at once, no more is fetched than it will use soon:
   * what lies on the disk for long is read from there again. Without a call everything is fetched as fast as it comes.
   */
  consumed(bytes: number): void;
  /** Whether nothing comes just because the consumer has not come far enough, the origin may not be asked yet, or other blobs come first. */
  readonly isHeldBack: boolean;
  /** Called on every growth of the prefix (coalesced), until the returned function is called. */
  onPrefix(listener: (prefixBytes: number) => void): () => void;
  /** Resolves when all bytes are in the file. Rejects with CacheUnavailable, Stalled, the origin's error, Cancelled. */
  readonly finished: Promise<void>;
  /** After `finished`: nothing is written to the file any more, so that it may get another name before its digest is known. */
  seal(): Promise<void>;
  /** The consumer found the blob's digest to be right: the file is kept as a complete blob and may be served as such. */
  confirm(): Promise<void>;
  /**
   * The consumer found the blob's digest to be wrong: drops every byte, tells the swarm, and returns a new transfer
   * that reads from the origin alone. This one counts as released.
   */
  distrust(): Promise<Transfer>;
  /** The consumer needs the transfer no longer. When nobody else does, the fetch stops; verified chunks stay cached. */
  release(): void;
}
