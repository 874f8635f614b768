import type { ShoalError } from '../base/errors.ts';
import { Gate } from '../base/gate.ts';
import { settleAll } from '../base/settle-all.ts';
import type { ReadOrigin, Transfer, TransferEngine } from '../peer/transfer.ts';
import type { Origin } from '../registry/origin.ts';
import type { ImagePlan, LayerPlan, LayerSession } from '../store/image-store.ts';
import type { UnpackPool } from '../unpack/unpack-pool.ts';
import { heldTransfer } from './held-transfer.ts';
import { importLayer, type LayerContext, type StoredBlob } from './import-layer.ts';
import { LayerOrder } from './layer-order.ts';
import type { PullProgress } from './progress.ts';
import { watchForStall } from './stall-watch.ts';

/** A store that merges one layer after the other has nothing from layers that arrive long before their turn. */
const MERGED_AT_ONCE = 2;

export interface LayerImport {
  readonly engine: TransferEngine;
  readonly unpack: UnpackPool;
  readonly privileged: boolean;
  readonly unpackedBytesMax: number;
  /** Layers of one image that are under way at once. */
  readonly layersAtOnce: number;
  /** An import that waits for bytes and gets none for this long fails with `Stalled`. */
  readonly stallTimeoutMs: number;
  readonly origin: Pick<Origin, 'readBlob'>;
  readonly progress: PullProgress;
  readonly plan: ImagePlan;
  /** Keeps a transfer, and so its file in the cache, until the pull ends. */
  readonly keep: (transfer: Transfer) => void;
}

/** Brings the layers that the session lacks into it, and gives what is stored now. All of them have ended when it settles. */
export async function importLayers(
  parts: LayerImport,
  session: LayerSession,
  signal: AbortSignal,
): Promise<readonly StoredBlob[]> {
  const { plan, progress, stallTimeoutMs, layersAtOnce } = parts;
  const stop = new AbortController();
  const transfers = new Set<Transfer>();
  const openTransfer = (layer: LayerPlan, index: number): Transfer => {
    const transfer = startTransfer(parts, session, layer, index);
    transfers.add(transfer);
    return transfer;
  };
  const stored: StoredBlob[] = [];
  const onStored = (blob: StoredBlob): void => void stored.push(blob);
  const downloads = new Gate(
    session.treeMode === 'merge' ? Math.min(layersAtOnce, MERGED_AT_ONCE) : layersAtOnce,
  );
  const order = new LayerOrder([...session.missing]);
  parts.unpack.prepare(session.missing.size);
  const context: LayerContext = { ...parts, session, openTransfer, downloads, order, onStored };
  const abort = (reason: ShoalError): void => stop.abort(reason);
  const endWatch = watchForStall(watchOf(progress, transfers), stallTimeoutMs, plan.names[0] ?? '', abort);
  try {
    await settleAll(startImports(context, plan, signal, stop));
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

function watchOf(progress: PullProgress, transfers: ReadonlySet<Transfer>) {
  return {
    progress: () => progress.layers.reduce((sum, layer) => sum + layer.fetchedBytes, 0),
    // Layers that wait for a place to be unpacked in are not fetched far ahead of that.
    isWaiting: () =>
      ![...transfers].some((transfer) => transfer.isHeldBack) &&
      progress.layers.some((layer) => layer.phase === 'fetching' && layer.fetchedBytes < layer.sizeBytes),
  };
}

function startTransfer(parts: LayerImport, session: LayerSession, layer: LayerPlan, index: number): Transfer {
  const { digest, sizeBytes } = layer.descriptor;
  const key = { host: parts.plan.host, digest };
  const readOrigin: ReadOrigin = (range, signal) => parts.origin.readBlob(digest, sizeBytes, range, signal);
  const open = (): Transfer => parts.engine.open({ key, sizeBytes, readOrigin });
  const path = session.blobPath?.(index);
  return path === undefined ? open() : heldTransfer({ key, sizeBytes, path }, open);
}
