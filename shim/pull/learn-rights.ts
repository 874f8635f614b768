import { readRightOf } from '../peer/read-right.ts';
import type { TransferEngine } from '../peer/transfer.ts';
import type { Origin } from '../registry/origin.ts';
import type { ImagePlan } from '../store/image-store.ts';

/**
 * The caller could read the image's documents: this node may have all its layers of peers and serve them to those who could
 * as well. Layers that are on the node already count too: it may be the only one that has them.
 */
export function learnRights(engine: TransferEngine, plan: ImagePlan, origin: Origin): void {
  const right = readRightOf([plan.manifest.bytes, plan.config.bytes], origin.isAnonymous);
  for (const { descriptor } of plan.layers)
    engine.learnRight({ host: plan.host, digest: descriptor.digest }, right);
}
