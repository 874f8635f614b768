import { Gate } from '../base/gate.ts';
import type { ImagePlan, LayerPlan } from '../store/image-store.ts';
import type { BlobStore } from './blob-store.ts';
import type { Lease } from './lease.ts';
import type { ContentInfo, SnapshotInfo } from './messages.ts';
import type { SnapshotStore } from './snapshot-store.ts';
import { isFromHost, UNCOMPRESSED, verifiedKey } from './source-labels.ts';

/** Layers that are looked for at once, two calls each: an image may have more than a hundred. */
const LOOKUPS_MAX = 16;

/** What containerd has of one layer that may serve this pull. */
export interface PresentLayer {
  /** Nothing of it has to be brought. */
  readonly complete: boolean;
  /** The stored blob, when its bytes came from this host; perhaps without a tree. */
  readonly blobPath: string | undefined;
}

export interface PresenceQuery {
  readonly plan: ImagePlan;
  readonly blobs: BlobStore;
  /** Absent when containerd unpacks: then blobs are all that counts. */
  readonly snapshots: SnapshotStore | undefined;
  /** Told while the layers are looked for. */
  readonly keepLayers: Promise<boolean>;
  readonly lease: Lease;
  readonly nowMs: () => number;
}

/** What containerd keeps of one layer, whoever brought it. */
interface Kept {
  readonly blob: ContentInfo | undefined;
  readonly snapshot: SnapshotInfo | undefined;
}

/**
 * Looks for the layers. What is found is put under the lease and looked at again, so that it stays; the rest needs no lease, which
 * would cost a transaction each: what comes into being later is put under one when the import meets it.
 */
export async function findPresentLayers(query: PresenceQuery, signal: AbortSignal): Promise<PresentLayer[]> {
  const gate = new Gate(LOOKUPS_MAX);
  return await Promise.all(query.plan.layers.map((layer) => gate.run(() => findLayer(query, layer, signal))));
}

async function findLayer(query: PresenceQuery, layer: LayerPlan, signal: AbortSignal): Promise<PresentLayer> {
  const { blobs, snapshots, plan } = query;
  let kept = await look(query, layer, signal);
  if (kept.blob !== undefined || kept.snapshot !== undefined) {
    await hold(query, layer, kept, signal);
    kept = await look(query, layer, signal);
  }
  const unpacks = snapshots !== undefined;
  const keepLayers = await query.keepLayers;
  return {
    complete: isComplete({ plan, keepLayers, unpacks }, layer, kept.blob, kept.snapshot),
    blobPath: isUsableBlob(kept.blob, plan.host) ? await blobs.path(layer.descriptor.digest) : undefined,
  };
}

async function look(
  { blobs, snapshots }: PresenceQuery,
  layer: LayerPlan,
  signal: AbortSignal,
): Promise<Kept> {
  const [blob, snapshot] = await Promise.all([
    blobs.info(layer.descriptor.digest, signal),
    snapshots?.committed(layer.chainId, signal),
  ]);
  return { blob, snapshot };
}

async function hold(
  { snapshots, lease, nowMs }: PresenceQuery,
  layer: LayerPlan,
  { blob, snapshot }: Kept,
  signal: AbortSignal,
): Promise<void> {
  if (blob !== undefined) await lease.hold({ type: 'content', id: layer.descriptor.digest }, nowMs(), signal);
  if (snapshot !== undefined)
    await lease.hold({ type: `snapshots/${snapshots?.name}`, id: layer.chainId }, nowMs(), signal);
}

/**
 * A tree serves this pull only when this host is known to have let us read the layer that it was made from: either the blob is this host's and
 * was found to unpack to this diff ID, or the snapshot says so itself. A config may claim any diff ID, so that a tree alone proves nothing.
 */
export function isComplete(
  query: { readonly plan: Pick<ImagePlan, 'host'>; readonly keepLayers: boolean; readonly unpacks: boolean },
  layer: Pick<LayerPlan, 'diffId'>,
  blob: Pick<ContentInfo, 'labels'> | undefined,
  snapshot: Pick<SnapshotInfo, 'labels'> | undefined,
): boolean {
  const { host } = query.plan;
  const blobServes = isUsableBlob(blob, host);
  if (!query.unpacks) return blobServes;
  if (snapshot === undefined) return false;
  const blobProves = blobServes && blob?.labels[UNCOMPRESSED] === layer.diffId;
  if (query.keepLayers) return blobProves;
  return blobProves || snapshot.labels[verifiedKey(host)] !== undefined;
}

function isUsableBlob(blob: Pick<ContentInfo, 'labels'> | undefined, host: string): boolean {
  return blob !== undefined && isFromHost(blob.labels, host);
}
