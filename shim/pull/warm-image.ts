import { isShoalError } from '../base/errors.ts';
import type { TransferEngine } from '../peer/transfer.ts';
import type { Origin } from '../registry/origin.ts';
import type { ImagePlan, WarmSession } from '../store/image-store.ts';
import type { StoredBlob } from './import-layer.ts';
import { importLayers } from './import-layers.ts';
import type { PullProgress } from './progress.ts';
import { adoptAll, type PullDependencies } from './pull-image.ts';

export interface WarmRequest {
  readonly plan: ImagePlan;
  readonly origin: Pick<Origin, 'readBlob'>;
  readonly progress: PullProgress;
}

/** Layers in the store that no image names: collected after `release`. */
export interface WarmedLayers {
  /** False when the work was paused: some layers are there, and chunks of others in the cache. */
  readonly complete: boolean;
  /** To be called when an image keeps the layers: peers are served from the store's files from now on. */
  adopt(): Promise<void>;
  release(): Promise<void>;
}

/**
 * Brings an image's layers into cache and store ahead of a pull, and makes no image of them. `pause` ends the work early and
 * keeps what is complete; when it fails or `signal` aborts, everything but verified chunks in the cache is taken back.
 */
export async function warmImage(
  dependencies: PullDependencies,
  request: WarmRequest,
  { pause, signal }: { readonly pause: AbortSignal; readonly signal: AbortSignal },
): Promise<WarmedLayers> {
  const { plan, progress } = request;
  progress.begin(
    plan.target.digest,
    plan.layers.map((layer) => layer.descriptor),
  );
  const session = await dependencies.store.openWarm(plan, signal);
  try {
    const stored = await bring({ dependencies, request, session }, AbortSignal.any([pause, signal]));
    await session.hold();
    return heldLayers(dependencies.engine, session, stored, true);
  } catch (error) {
    if (pause.aborted && !signal.aborted && isShoalError(error)) {
      await session.hold();
      return heldLayers(dependencies.engine, session, [], false);
    }
    await session.abort();
    throw error;
  }
}

interface Bringing {
  readonly dependencies: PullDependencies;
  readonly request: WarmRequest;
  readonly session: WarmSession;
}

async function bring(
  { dependencies, request, session }: Bringing,
  signal: AbortSignal,
): Promise<readonly StoredBlob[]> {
  await using kept = new AsyncDisposableStack();
  return await importLayers(
    { ...dependencies, ...request, keep: (transfer) => kept.defer(() => transfer.release()) },
    session,
    signal,
  );
}

function heldLayers(
  engine: TransferEngine,
  session: WarmSession,
  stored: readonly StoredBlob[],
  complete: boolean,
): WarmedLayers {
  return {
    complete,
    adopt: () => adoptAll(engine, stored),
    release: () => session.abort(),
  };
}
