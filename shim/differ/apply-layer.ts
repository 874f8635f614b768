import { mkdtemp, open, readdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Digest } from '../base/digest.ts';
import { hexOf } from '../base/digest.ts';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';
import { syncfs } from '../base/posix.ts';
import { placeTree } from '../containerd/place-tree.ts';
import type { UnpackPool } from '../unpack/unpack-pool.ts';
import type { ApplyRequest } from './apply-request.ts';

export interface ApplyOptions {
  readonly unpack: UnpackPool;
  /** Root of containerd's content store: blobs are files below it. */
  readonly contentRoot: string;
  readonly unpackedBytesMax: number;
}

export interface AppliedLayer {
  readonly diffId: Digest;
  readonly tarBytes: number;
}

/**
 * Unpacks a blob of containerd's content store into the upper directory of a prepared snapshot. The tree is made beside it, in the
 * snapshot's own directory, and takes its place when the blob's digest agrees: a failure leaves an empty upper directory behind, and
 * what a crash leaves goes with the snapshot.
 * @throws Unsupported when the upper directory holds something already; what unpacking and placing throw
 */
export async function applyLayer(
  request: ApplyRequest,
  options: ApplyOptions,
  signal: AbortSignal,
): Promise<AppliedLayer> {
  const { upper, lowers } = request.target;
  await atPath(upper, () => requireEmpty(upper));
  const sourcePath = join(options.contentRoot, 'blobs', 'sha256', hexOf(request.digest));
  const { size } = await atPath(sourcePath, () => stat(sourcePath));
  const staged = await atPath(upper, () => mkdtemp(join(dirname(upper), '.shoal-')));
  try {
    const run = options.unpack.start(
      {
        sourcePath,
        sizeBytes: size,
        digest: request.digest,
        diffId: undefined,
        compression: request.compression,
        // Below the lowest layer there is nothing that whiteouts could hide.
        mode: lowers.length === 0 ? 'merge' : 'overlay',
        targetDirectory: staged,
        privileged: true,
        unpackedBytesMax: options.unpackedBytesMax,
      },
      signal,
    );
    run.advance(size);
    const { diffId, tarBytes, impliedDirectories } = await run.result;
    await placeTree({ directory: staged, impliedDirectories }, request.target);
    if (request.mustSync) await atPath(upper, () => syncFileSystem(upper));
    return { diffId, tarBytes };
  } catch (error) {
    await rm(staged, { recursive: true, force: true });
    throw error;
  }
}

async function requireEmpty(directory: string): Promise<void> {
  if ((await readdir(directory)).length === 0) return;
  throw new ShoalError(
    ErrorCode.Unsupported,
    `Cannot apply the layer to "${directory}": files found there, an empty directory wanted`,
  );
}

async function syncFileSystem(directory: string): Promise<void> {
  await using handle = await open(directory, 'r');
  syncfs(handle.fd);
}

async function atPath<T>(path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof ShoalError) throw error;
    const found = nodeErrorCode(error) ?? 'unknown error';
    throw new ShoalError(ErrorCode.StoreFailed, `Cannot apply the layer at "${path}": ${found}`, {
      cause: error,
      facts: { path, errno: found },
    });
  }
}
