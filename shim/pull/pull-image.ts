import type { Platform } from '../base/descriptor.ts';
import type { Digest } from '../base/digest.ts';
import type { ShoalError } from '../base/errors.ts';
import { Gate } from '../base/gate.ts';
import type { ReadOrigin, Transfer, TransferCounts, TransferEngine } from '../peer/transfer.ts';
import type { Origin } from '../registry/origin.ts';
import type { Reference } from '../registry/reference.ts';
import type { ImagePlan, ImageStore, ImportSession, LayerPlan } from '../store/image-store.ts';
import type { UnpackPool } from '../unpack/unpack-pool.ts';
import { firstFailure } from './first-failure.ts';
import { heldTransfer } from './held-transfer.ts';
import { importLayer, type LayerContext, MergeSpoilt, type StoredBlob } from './import-layer.ts';
import { planImage } from './plan-image.ts';
import type { PullProgress } from './progress.ts';
import { stalled, watchForStall } from './stall-watch.ts';

/** A store that merges one layer after the other has nothing from layers that arrive long before their turn. */
const MERGED_AT_ONCE = 2;

export interface PullDependencies {
  readonly engine: TransferEngine;
  readonly unpack: UnpackPool;
  readonly store: ImageStore;
  readonly platform: Platform;
  readonly privileged: boolean;
  readonly unpackedBytesMax: number;
  /** Layers of one pull that are under way at once. */
  readonly layersAtOnce: number;
  /** A pull that waits for bytes and gets none for this long fails with `Stalled`. */
  readonly stallTimeoutMs: number;
}

export interface PullRequest {
  readonly reference: Reference;
  /** The registry as the caller of this pull may see it. The caller closes it. */
  readonly origin: Origin;
  readonly runtimeHandler?: string;
  readonly progress: PullProgress;
}

export interface PullResult {
  /** Digest of the image's config, what the CRI calls the image ID. */
  readonly imageId: Digest;
  /** What the reference resolved to. */
  readonly digest: Digest;
  /** Whether the caller must still have containerd unpack the image (its snapshotter is not one that we write to). */
  readonly finishedBy: 'shoal' | 'containerd';
  /** Lets go of what is kept for containerd's part; to be called when that is over. */
  readonly release: () => Promise<void>;
  /** Sum of the layers' compressed sizes. */
  readonly imageBytes: number;
  readonly counts: TransferCounts;
}

/**
 * One accelerated pull: ask the origin (the right to read comes first), fetch what the store lacks, check, unpack, import.
 * When it fails or `signal` aborts, everything but verified chunks in the cache is taken back before it rejects.
 */
export async function pullImage(
  dependencies: PullDependencies,
  request: PullRequest,
  signal: AbortSignal,
): Promise<PullResult> {
  const plan = await planInTime(dependencies, request, signal);
  const descriptors = plan.layers.map((layer) => layer.descriptor);
  request.progress.begin(plan.target.digest, descriptors);
  await using kept = new AsyncDisposableStack();
  const keep = (transfer: Transfer): void => kept.defer(() => transfer.release());
  const finished = await importImage({ ...dependencies, ...request, plan, keep }, signal).catch(
    (error: unknown) => {
      if (!(error instanceof MergeSpoilt)) throw error;
      return importImage({ ...dependencies, ...request, plan, keep }, signal);
    },
  );
  const imageBytes = descriptors.reduce((sum, layer) => sum + layer.sizeBytes, 0);
  const { counts } = request.progress.snapshot();
  return { ...finished, digest: plan.target.digest, imageBytes, counts };
}

/** A registry that answers nothing is left to containerd as one whose layers stop coming is. */
async function planInTime(
  { platform, stallTimeoutMs }: PullDependencies,
  request: PullRequest,
  signal: AbortSignal,
): Promise<ImagePlan> {
  const late = new AbortController();
  const give = (): void => late.abort(stalled(request.progress.reference, stallTimeoutMs));
  const timer = setTimeout(give, stallTimeoutMs);
  try {
    return await planImage(request, platform, AbortSignal.any([signal, late.signal]));
  } finally {
    clearTimeout(timer);
  }
}

interface Import extends PullDependencies, PullRequest {
  readonly plan: ImagePlan;
  readonly keep: (transfer: Transfer) => void;
}

async function importImage(
  parts: Import,
  signal: AbortSignal,
): Promise<Pick<PullResult, 'imageId' | 'finishedBy' | 'release'>> {
  const session = await parts.store.open(parts.plan, signal);
  try {
    const stored = await importLayers(parts, session, signal);
    const imageId = await session.finish(signal);
    await adoptAll(parts.engine, stored);
    return { imageId, finishedBy: session.finishedBy, release: () => session.abort() };
  } catch (error) {
    await session.abort();
    throw error;
  }
}

/** Only now: what an aborted import put into the store goes away again, and the cache must still have it then. */
async function adoptAll(engine: TransferEngine, stored: readonly StoredBlob[]): Promise<void> {
  // The image is in place; where this fails, peers are served from the cache as before.
  for (const { key, path, sizeBytes } of stored)
    await engine.adopt(key, path, sizeBytes).catch(() => undefined);
}

async function importLayers(
  parts: Import,
  session: ImportSession,
  signal: AbortSignal,
): Promise<readonly StoredBlob[]> {
  const { plan, progress, stallTimeoutMs, layersAtOnce } = parts;
  const stop = new AbortController();
  const openTransfer = (layer: LayerPlan, index: number): Transfer =>
    startTransfer(parts, session, layer, index);
  const stored: StoredBlob[] = [];
  const onStored = (blob: StoredBlob): void => void stored.push(blob);
  const downloads = new Gate(
    session.treeMode === 'merge' ? Math.min(layersAtOnce, MERGED_AT_ONCE) : layersAtOnce,
  );
  const context: LayerContext = { ...parts, session, openTransfer, downloads, onStored };
  const abort = (reason: ShoalError): void => stop.abort(reason);
  const endWatch = watchForStall(watchOf(progress), stallTimeoutMs, plan.names[0] ?? '', abort);
  try {
    await firstFailure(startImports(context, plan, signal, stop));
    return stored;
  } finally {
    endWatch();
  }
}

function startImports(
  context: LayerContext,
  plan: ImagePlan,
  signal: AbortSignal,
  stop: AbortController,
): Promise<void>[] {
  const linked = AbortSignal.any([signal, stop.signal]);
  let turn: Promise<unknown> = Promise.resolve();
  return plan.layers.flatMap((layer, index) => {
    if (!context.session.missing.has(index)) {
      context.progress.update(index, { phase: 'present' });
      return [];
    }
    const done = importLayer(context, index, layer, turn, linked);
    done.catch((error: unknown) => stop.abort(error));
    turn = done;
    return [done];
  });
}

function watchOf(progress: PullProgress) {
  return {
    progress: () => progress.layers.reduce((sum, layer) => sum + layer.fetchedBytes, 0),
    isWaiting: () =>
      progress.layers.some((layer) => layer.phase === 'fetching' && layer.fetchedBytes < layer.sizeBytes),
  };
}

function startTransfer(parts: Import, session: ImportSession, layer: LayerPlan, index: number): Transfer {
  const { digest, sizeBytes } = layer.descriptor;
  const key = { host: parts.plan.host, digest };
  const readOrigin: ReadOrigin = (range, signal) => parts.origin.readBlob(digest, sizeBytes, range, signal);
  const open = (): Transfer => parts.engine.open({ key, sizeBytes, readOrigin });
  const path = session.blobPath?.(index);
  return path === undefined ? open() : heldTransfer({ key, sizeBytes, path }, open);
}
