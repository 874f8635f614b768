import type { ImagePlan, LayerPlan } from '../store/image-store.ts';
import type { BlobStore } from './blob-store.ts';
import type { Lease } from './lease.ts';
import type { ContentInfo, SnapshotInfo } from './messages.ts';
import type { SnapshotStore } from './snapshot-store.ts';
import { isFromHost, UNCOMPRESSED, verifiedKey } from './source-labels.ts';

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
  readonly keepLayers: boolean;
  readonly lease: Lease;
  readonly nowMs: () => number;
}

/** Looks for the layers, under the lease before the look, so that what was found stays. */
export async function findPresentLayers(query: PresenceQuery, signal: AbortSignal): Promise<PresentLayer[]> {
  const found: PresentLayer[] = [];
  for (const layer of query.plan.layers) found.push(await findLayer(query, layer, signal));
  return found;
}

async function findLayer(query: PresenceQuery, layer: LayerPlan, signal: AbortSignal): Promise<PresentLayer> {
  const { blobs, snapshots, lease, nowMs } = query;
  const { digest } = layer.descriptor;
  await lease.hold({ type: 'content', id: digest }, nowMs(), signal);
  const blob = await blobs.info(digest, signal);
  let snapshot: SnapshotInfo | undefined;
  if (snapshots !== undefined) {
    await lease.hold({ type: `snapshots/${snapshots.name}`, id: layer.chainId }, nowMs(), signal);
    snapshot = await snapshots.committed(layer.chainId, signal);
  }
  const blobServes = isUsableBlob(blob, query.plan.host);
  return {
    complete: isComplete({ ...query, unpacks: snapshots !== undefined }, layer, blob, snapshot),
    blobPath: blobServes ? await blobs.path(digest) : undefined,
  };
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
