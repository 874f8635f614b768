import { abortable } from '../base/abortable.ts';
import type { BlobKey } from '../base/blob-key.ts';
import { syncFile } from '../base/durable-file.ts';
import { ErrorCode, isShoalError, throwIfAborted } from '../base/errors.ts';
import type { Gate } from '../base/gate.ts';
import type { Transfer } from '../peer/transfer.ts';
import type { LayerPlan, LayerSession, ReadyLayer } from '../store/image-store.ts';
import { checkLayerFile } from '../unpack/layer-digest.ts';
import type { UnpackJob, UnpackPool, UnpackResult } from '../unpack/unpack-pool.ts';
import type { LayerOrder } from './layer-order.ts';
import { nameMissing } from './missing-content.ts';
import type { PullProgress } from './progress.ts';

/** What the layers of one pull have in common. */
export interface LayerContext {
  readonly unpack: UnpackPool;
  readonly session: LayerSession;
  /** Whether this process may set owners and make device nodes. */
  readonly privileged: boolean;
  readonly unpackedBytesMax: number;
  readonly progress: PullProgress;
  /** Starts or joins the transfer of one layer. */
  readonly openTransfer: (layer: LayerPlan, index: number) => Transfer;
  /** Layers download in manifest order, a few at a time: those that are unpacked first arrive first. */
  readonly downloads: Gate;
  /** And are unpacked in that order where there are fewer threads than layers. */
  readonly order: LayerOrder;
  /** Keeps a transfer, and so its file in the cache, until the pull ends. */
  readonly keep: (transfer: Transfer) => void;
  readonly onStored: (blob: StoredBlob) => void;
}

/** A layer's blob in the store; it is there for good once the image is finished. */
export interface StoredBlob {
  readonly key: BlobKey;
  readonly sizeBytes: number;
  readonly path: string;
}

/** The layers below are spoilt as well: the image must be merged again from the first layer on. */
export class MergeSpoilt extends Error {
  override readonly name = 'MergeSpoilt';
}

/**
 * Brings one layer into the store: fetch, check and unpack at the same time, then hand over.
 * `turn` resolves when the layers below are merged; only stores that merge trees in order wait for it.
 * @throws MergeSpoilt when a merged layer proved wrong and would not when read from the origin alone
 */
export async function importLayer(
  context: LayerContext,
  index: number,
  layer: LayerPlan,
  turn: Promise<unknown>,
  signal: AbortSignal,
): Promise<void> {
  const first = await openInTurn(context, index, layer, signal);
  let transfer = first;
  try {
    const ready = await unpackLayer(context, index, layer, first, turn, signal).catch(
      async (error: unknown) => {
        if (!isContentError(error) || isFromOriginAlone(first)) throw error;
        transfer = await first.distrust();
        if (context.session.treeMode !== 'merge')
          return unpackLayer(context, index, layer, transfer, turn, signal);
        context.keep(transfer);
        throw new MergeSpoilt('a merged layer was wrong', { cause: error });
      },
    );
    await storeLayer(context, index, transfer, ready, signal);
  } catch (error) {
    // At once, not at the end of the pull: other layers may be waiting for the place.
    if (!(error instanceof MergeSpoilt)) transfer.release();
    throw nameMissing(error, layer.descriptor);
  } finally {
    context.order.started(index);
  }
  context.keep(transfer);
}

/** A place is free again when a layer is down, however long its unpacking takes. */
async function openInTurn(
  context: LayerContext,
  index: number,
  layer: LayerPlan,
  signal: AbortSignal,
): Promise<Transfer> {
  await context.downloads.enter();
  try {
    throwIfAborted(signal, 'fetch a layer');
    const transfer = context.openTransfer(layer, index);
    transfer.consumed(0);
    const leave = (): void => context.downloads.leave();
    transfer.finished.then(leave, leave);
    // The store syncs the file when it takes it over: by then little is left to write.
    transfer.finished.then(() => syncFile(transfer.path)).catch(() => undefined);
    return transfer;
  } catch (error) {
    context.downloads.leave();
    throw error;
  }
}

type UnpackedLayer = Omit<ReadyLayer, 'blobPath'>;

/** Fetches a layer and unpacks it while it arrives; both digests agree when it resolves. */
async function unpackLayer(
  context: LayerContext,
  index: number,
  layer: LayerPlan,
  transfer: Transfer,
  turn: Promise<unknown>,
  signal: AbortSignal,
): Promise<UnpackedLayer> {
  const show = (fetchedBytes: number): void =>
    context.progress.update(index, { fetchedBytes, counts: transfer.counts });
  context.progress.update(index, { phase: 'fetching' });
  const stop = transfer.onPrefix(show);
  try {
    const { treeMode } = context.session;
    if (treeMode === 'merge') await abortable(turn, signal);
    const stagingDirectory =
      treeMode === 'none' ? undefined : await context.session.stagingDirectory(index, signal);
    await abortable(readable(transfer), signal);
    const { isProven } = transfer;
    const target = {
      // Nothing lies below the lowest layer, so that its whiteouts have nothing to hide.
      mode: treeMode === 'none' ? 'verify' : index === 0 ? 'merge' : treeMode,
      targetDirectory: stagingDirectory ?? '',
      leavesDigest: isProven || leavesDigest(context, index),
    } as const;
    await context.order.turnOf(index, signal);
    const [{ impliedDirectories }, isChecked] = await besides(
      (until) => giveBlob(context, index, transfer, until),
      () => {
        const unpacked = unpackTransfer(context, layer, transfer, target, signal);
        context.order.started(index);
        return unpacked;
      },
      signal,
    );
    if (target.leavesDigest && !isProven && !isChecked)
      await checkLayerFile(transfer.path, layer.descriptor.digest, signal);
    await transfer.confirm();
    show(transfer.prefixBytes);
    return { stagingDirectory, impliedDirectories };
  } finally {
    stop();
  }
}

/** The store hashes the blob before it takes it for good, and then the unpacking thread need not. */
function leavesDigest({ session }: LayerContext, index: number): boolean {
  return session.checksBlob?.(index) ?? false;
}

/** Runs `aside` beside `main`, whose failure ends it. Both have ended when it settles. */
async function besides<Main, Aside>(
  aside: (until: AbortSignal) => Promise<Aside>,
  main: () => Promise<Main>,
  signal: AbortSignal,
): Promise<[Main, Aside]> {
  const stop = new AbortController();
  const running = aside(AbortSignal.any([signal, stop.signal]));
  try {
    return [await main(), await running];
  } catch (error) {
    stop.abort(error);
    throw error;
  } finally {
    await running;
  }
}

/**
 * The store may look at a blob that is down while its tree is still being unpacked. True when it found the layer's digest. Never
 * rejects: what is wrong with the layer is said elsewhere.
 */
async function giveBlob(
  { session }: LayerContext,
  index: number,
  transfer: Transfer,
  signal: AbortSignal,
): Promise<boolean> {
  if (session.takeBlob === undefined) return false;
  try {
    await abortable(transfer.finished, signal);
    await transfer.seal();
  } catch {
    return false;
  }
  return await session.takeBlob(index, transfer.path, signal);
}

async function storeLayer(
  context: LayerContext,
  index: number,
  transfer: Transfer,
  layer: UnpackedLayer,
  signal: AbortSignal,
): Promise<void> {
  context.progress.update(index, { phase: 'importing' });
  const stored = await context.session.addLayer(index, { ...layer, blobPath: transfer.path }, signal);
  if (stored !== undefined)
    context.onStored({ key: transfer.key, sizeBytes: transfer.sizeBytes, path: stored });
  context.progress.update(index, { phase: 'done' });
}

/** The file is there, and under the name that it keeps, when its first bytes are. Rejects when none will come. */
async function readable(transfer: Transfer): Promise<void> {
  if (transfer.prefixBytes > 0) return;
  const begun = Promise.withResolvers<void>();
  const unsubscribe = transfer.onPrefix(() => begun.resolve());
  try {
    await Promise.race([begun.promise, transfer.finished]);
  } finally {
    unsubscribe();
  }
}

/** Runs one unpack job over a transfer while that is filling its file; ends with both, or with the first failure. */
async function unpackTransfer(
  context: LayerContext,
  layer: LayerPlan,
  transfer: Transfer,
  target: Pick<UnpackJob, 'mode' | 'targetDirectory' | 'leavesDigest'>,
  signal: AbortSignal,
): Promise<UnpackResult> {
  throwIfAborted(signal, 'unpack a layer');
  const stop = new AbortController();
  const run = context.unpack.start(
    jobOf(context, layer, transfer, target),
    AbortSignal.any([signal, stop.signal]),
  );
  const unsubscribe = transfer.onPrefix((prefixBytes) => run.advance(prefixBytes));
  run.onRead((readBytes) => transfer.consumed(readBytes));
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
  target: Pick<UnpackJob, 'mode' | 'targetDirectory' | 'leavesDigest'>,
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
