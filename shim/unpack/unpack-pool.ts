import type { Compression } from '../base/descriptor.ts';
import type { Digest } from '../base/digest.ts';

export { createUnpackPool } from './create-unpack-pool.ts';

export interface UnpackJob {
  /** The layer file; bytes up to the announced prefix may be read. */
  readonly sourcePath: string;
  readonly sizeBytes: number;
  readonly digest: Digest;
  /** The caller checks `digest` before the tree is used. A job that fails looks at it all the same, to say what is wrong. */
  readonly leavesDigest?: boolean;
  /** The digest that the tar must have; undefined: whatever it has, told in the result. */
  readonly diffId: Digest | undefined;
  readonly compression: Compression;
  /**
   * What to do with the tar: extract it as an overlayfs upper directory (whiteouts become 0/0 character devices and
   * opaque xattrs), extract it onto a directory that holds the lower layers already (whiteouts delete), or only check both digests.
   */
  readonly mode: 'overlay' | 'merge' | 'verify';
  /** An existing directory with mode 0700; ignored when `mode` is `verify`. */
  readonly targetDirectory: string;
  /** Without root: owners, device nodes and xattrs that need privileges are left out. */
  readonly privileged: boolean;
  /** A tar that claims more than this is refused (gzip bomb), bytes. */
  readonly unpackedBytesMax: number;
}

export interface UnpackResult {
  /** Digest of the tar. */
  readonly diffId: Digest;
  /** Sum of the sizes of all files, holes included; in mode `verify` the same as `tarBytes`. */
  readonly unpackedBytes: number;
  /** Length of the tar, bytes. */
  readonly tarBytes: number;
  readonly entries: number;
  /**
   * Directories (relative to the target, parents first) that the tar implied and never named. In an overlay layer they must
   * take mode, owner, times and xattrs of the same directory in the layers below, if there is one.
   */
  readonly impliedDirectories: readonly string[];
}

/** A running job. It reads no further than the prefix that was announced. */
export interface UnpackRun {
  advance(prefixBytes: number): void;
  /** Called when a worker has read on in the layer file, every 2 MiB and at its end. One listener at a time. */
  onRead(listener: (readBytes: number) => void): void;
  /** Rejects with DigestMismatch, UnpackUnsafe, UnpackInvalid, UnpackFailed, LimitExceeded, Unsupported, Cancelled. */
  readonly result: Promise<UnpackResult>;
}

/** Runs layers in worker threads; jobs above the number of workers wait their turn in the order of `start`. */
export interface UnpackPool {
  /** Jobs will follow soon: begins to start threads for them, which takes some 0.1 s, as far as they can all run at once. */
  prepare(jobs: number): void;
  start(job: UnpackJob, signal: AbortSignal): UnpackRun;
  close(): Promise<void>;
}
