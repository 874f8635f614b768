import type { Platform } from '../base/descriptor.ts';
import type { Digest } from '../base/digest.ts';
import type { Transfer, TransferCounts, TransferEngine } from '../peer/transfer.ts';
import type { Origin } from '../registry/origin.ts';
import type { Reference } from '../registry/reference.ts';
import type { ImagePlan, ImageStore } from '../store/image-store.ts';
import type { UnpackPool } from '../unpack/unpack-pool.ts';
import { MergeSpoilt, type StoredBlob } from './import-layer.ts';
import { importLayers } from './import-layers.ts';
import { learnRights } from './learn-rights.ts';
import { type PlanRequest, planImage } from './plan-image.ts';
import { addAttempts, NO_BYTES, type PullProgress } from './progress.ts';
import { stalled } from './stall-watch.ts';

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
  /** What has been brought, or is on its way, ahead of pulls. */
  readonly ahead?: AheadOfPulls;
}

/** Images are warmed before anybody pulls them; a pull that has proved its right to read takes over what there is. */
export interface AheadOfPulls {
  /**
   * Waits for a warm-up of this image that is under way, as long as it makes progress. Gives where the bytes came from that were
   * brought ahead of the pull. Never rejects but for `signal`.
   */
  join(plan: ImagePlan, progress: PullProgress, signal: AbortSignal): Promise<TransferCounts>;
  /** The image is in place: what was held for it is needed no longer. Never rejects. */
  settled(plan: ImagePlan): Promise<void>;
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
  /** Where the bytes came from that this pull moved. */
  readonly counts: TransferCounts;
  /** How the image came to this node: what was warmed for it included. */
  readonly broughtCounts: TransferCounts;
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
  const before = (await dependencies.ahead?.join(plan, request.progress, signal)) ?? NO_BYTES;
  await using kept = new AsyncDisposableStack();
  const keep = (transfer: Transfer): void => kept.defer(() => transfer.release());
  const finished = await importImage({ ...dependencies, ...request, plan, keep }, signal).catch(
    (error: unknown) => {
      if (!(error instanceof MergeSpoilt)) throw error;
      return importImage({ ...dependencies, ...request, plan, keep }, signal);
    },
  );
  const imageBytes = descriptors.reduce((sum, layer) => sum + layer.sizeBytes, 0);
  await dependencies.ahead?.settled(plan);
  const { counts } = request.progress.snapshot();
  const broughtCounts = addAttempts([before, counts]);
  return { ...finished, digest: plan.target.digest, imageBytes, counts, broughtCounts };
}

/** A registry that answers nothing is left to containerd as one whose layers stop coming is. */
export async function planInTime(
  { engine, platform, stallTimeoutMs }: Pick<PullDependencies, 'engine' | 'platform' | 'stallTimeoutMs'>,
  request: PlanRequest & { readonly progress: PullProgress },
  signal: AbortSignal,
): Promise<ImagePlan> {
  const late = new AbortController();
  const give = (): void => late.abort(stalled(request.progress.reference, stallTimeoutMs));
  const timer = setTimeout(give, stallTimeoutMs);
  try {
    const plan = await planImage(request, platform, AbortSignal.any([signal, late.signal]));
    learnRights(engine, plan, request.origin);
    return plan;
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
export async function adoptAll(engine: TransferEngine, stored: readonly StoredBlob[]): Promise<void> {
  // The image is in place; where this fails, peers are served from the cache as before.
  await Promise.all(
    stored.map(({ key, path, sizeBytes }) => engine.adopt(key, path, sizeBytes).catch(() => undefined)),
  );
}
