import { ErrorCode, isShoalError, throwIfAborted } from '../base/errors.ts';
import type { Transfer, TransferEngine } from '../peer/transfer.ts';
import type { ImportSession, LayerPlan } from '../store/image-store.ts';
import type { UnpackJob, UnpackPool, UnpackResult } from '../unpack/unpack-pool.ts';
import type { PullProgress } from './progress.ts';

/** What the layers of one pull have in common. */
export interface LayerContext {
  readonly engine: TransferEngine;
  readonly unpack: UnpackPool;
  readonly session: ImportSession;
  /** Whether this process may set owners and make device nodes. */
  readonly privileged: boolean;
  readonly unpackedBytesMax: number;
  readonly progress: PullProgress;
  /** Starts or joins the transfer of one layer. */
  readonly openTransfer: (layer: LayerPlan) => Transfer;
}

/** A layer whose transfer is complete and whose digests agree, perhaps with its tree. */
interface CheckedLayer {
  readonly transfer: Transfer;
  readonly stagingDirectory: string | undefined;
  readonly impliedDirectories: readonly string[];
}

/**
 * Brings one layer into the store: fetch, check and unpack at the same time, then hand over.
 * `turn` resolves when the layers below are merged; only stores that merge trees in order wait for it.
 */
export async function importLayer(
  context: LayerContext,
  index: number,
  layer: LayerPlan,
  turn: Promise<unknown>,
  signal: AbortSignal,
): Promise<void> {
  const checked = await fetchLayer(context, index, layer, signal);
  try {
    context.progress.update(index, { phase: 'importing' });
    const ready =
      context.session.treeMode === 'merge'
        ? await mergeLayer(context, index, layer, checked, turn, signal)
        : checked;
    const { stagingDirectory, impliedDirectories } = ready;
    const blobPath = checked.transfer.path;
    const stored = await context.session.addLayer(
      index,
      { blobPath, stagingDirectory, impliedDirectories },
      signal,
    );
    if (stored !== undefined)
      await context.engine.adopt(checked.transfer.key, stored, layer.descriptor.sizeBytes);
    context.progress.update(index, { phase: 'done' });
  } finally {
    checked.transfer.release();
  }
}

/**
 * Fetches and checks. When the content proves wrong although a peer or the cache had a hand in it, every byte is dropped
 * and read again from the origin alone, once.
 */
async function fetchLayer(
  context: LayerContext,
  index: number,
  layer: LayerPlan,
  signal: AbortSignal,
): Promise<CheckedLayer> {
  const first = context.openTransfer(layer);
  try {
    return await checkLayer(context, index, layer, first, signal);
  } catch (error) {
    if (!isContentError(error) || isFromOriginAlone(first)) {
      first.release();
      throw error;
    }
  }
  const second = await first.distrust();
  try {
    return await checkLayer(context, index, layer, second, signal);
  } catch (error) {
    second.release();
    throw error;
  }
}

async function checkLayer(
  context: LayerContext,
  index: number,
  layer: LayerPlan,
  transfer: Transfer,
  signal: AbortSignal,
): Promise<CheckedLayer> {
  const show = (fetchedBytes: number): void =>
    context.progress.update(index, { fetchedBytes, counts: transfer.counts });
  context.progress.update(index, { phase: 'fetching' });
  const stop = transfer.onPrefix(show);
  try {
    const overlay = context.session.treeMode === 'overlay';
    const stagingDirectory = overlay ? await context.session.stagingDirectory(index, signal) : undefined;
    const target = { mode: overlay ? 'overlay' : 'verify', targetDirectory: stagingDirectory ?? '' } as const;
    const { impliedDirectories } = await unpackTransfer(context, layer, transfer, target, signal);
    await transfer.confirm();
    show(transfer.prefixBytes);
    return { transfer, stagingDirectory, impliedDirectories };
  } finally {
    stop();
  }
}

async function mergeLayer(
  context: LayerContext,
  index: number,
  layer: LayerPlan,
  checked: CheckedLayer,
  turn: Promise<unknown>,
  signal: AbortSignal,
): Promise<CheckedLayer> {
  await turn;
  const stagingDirectory = await context.session.stagingDirectory(index, signal);
  const target = { mode: 'merge', targetDirectory: stagingDirectory } as const;
  const { impliedDirectories } = await unpackTransfer(context, layer, checked.transfer, target, signal);
  return { ...checked, stagingDirectory, impliedDirectories };
}

/** Runs one unpack job over a transfer while that is filling its file; ends with both, or with the first failure. */
async function unpackTransfer(
  context: LayerContext,
  layer: LayerPlan,
  transfer: Transfer,
  target: Pick<UnpackJob, 'mode' | 'targetDirectory'>,
  signal: AbortSignal,
): Promise<UnpackResult> {
  throwIfAborted(signal, 'unpack a layer');
  const stop = new AbortController();
  const run = context.unpack.start(
    jobOf(context, layer, transfer, target),
    AbortSignal.any([signal, stop.signal]),
  );
  const unsubscribe = transfer.onPrefix((prefixBytes) => run.advance(prefixBytes));
  run.advance(transfer.prefixBytes);
  try {
    const [result] = await Promise.all([run.result, transfer.finished]);
    return result;
  } catch (error) {
    stop.abort(error);
    // The worker must have let go of the staging directory before anybody removes it.
    await run.result.catch(() => undefined);
    throw error;
  } finally {
    unsubscribe();
  }
}

function jobOf(
  context: LayerContext,
  layer: LayerPlan,
  transfer: Transfer,
  target: Pick<UnpackJob, 'mode' | 'targetDirectory'>,
): UnpackJob {
  return {
    ...target,
    sourcePath: transfer.path,
    sizeBytes: layer.descriptor.sizeBytes,
    digest: layer.descriptor.digest,
    diffId: layer.diffId,
    compression: layer.compression,
    privileged: context.privileged,
    unpackedBytesMax: context.unpackedBytesMax,
  };
}

function isContentError(error: unknown): boolean {
  return isShoalError(
    error,
    ErrorCode.DigestMismatch,
    ErrorCode.SizeMismatch,
    ErrorCode.UnpackInvalid,
    ErrorCode.UnpackUnsafe,
    ErrorCode.LimitExceeded,
  );
}

function isFromOriginAlone(transfer: Transfer): boolean {
  return transfer.counts.peerBytes + transfer.counts.cacheBytes === 0;
}
