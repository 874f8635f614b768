import { abortable } from '../base/abortable.ts';
import { assert } from '../base/assert.ts';
import type { ImagePlan, LayerPlan, ReadyLayer } from '../store/image-store.ts';
import type { Lease } from './lease.ts';
import type { Mount } from './messages.ts';
import { placeTree } from './place-tree.ts';
import type { PrepareRequest, SnapshotStore } from './snapshot-store.ts';
import { verifiedKey } from './source-labels.ts';
import { upperDirectoryOf } from './upper-directory.ts';

export interface TreeCommitsParts {
  readonly snapshots: SnapshotStore;
  readonly lease: Lease;
  readonly plan: ImagePlan;
  /** Begins the keys of the snapshots until they are committed. */
  readonly name: string;
  readonly nowMs: () => number;
}

/** Without mounts, somebody has committed the chain ID before. */
interface Prepared {
  readonly request: PrepareRequest;
  readonly mounts: readonly Mount[] | undefined;
}

/** Puts the extracted trees of one image into snapshots, each upon the one below. */
export class TreeCommits {
  readonly #parts: TreeCommitsParts;
  readonly #prepared = new Map<number, Promise<Prepared>>();

  constructor(parts: TreeCommitsParts) {
    this.#parts = parts;
  }

  /** Makes the snapshot that the layer's tree goes into, once. The layer below must have been committed. */
  prepare(index: number, signal: AbortSignal): Promise<Prepared> {
    const prepared = this.#prepared.get(index) ?? this.#prepare(index, signal);
    this.#prepared.set(index, prepared);
    return prepared;
  }

  /** Moves the tree into its snapshot, and commits that. The layer below must have been committed. */
  async commit(index: number, layer: ReadyLayer, signal: AbortSignal): Promise<void> {
    const { snapshots, lease, plan, nowMs } = this.#parts;
    assert(layer.stagingDirectory !== undefined, `layer ${index} comes with its tree`);
    const labels = { [verifiedKey(plan.host)]: '1' };
    const { request, mounts } = await abortable(this.prepare(index, signal), signal);
    if (mounts !== undefined) {
      const tree = { directory: layer.stagingDirectory, impliedDirectories: layer.impliedDirectories };
      await placeTree(tree, upperDirectoryOf(mounts));
      if (await snapshots.commit(request, labels, signal)) return;
      await snapshots.remove(request.key, signal);
    }
    const { chainId } = request;
    await lease.hold({ type: `snapshots/${snapshots.name}`, id: chainId }, nowMs(), signal);
    await snapshots.addLabels(chainId, labels, signal);
  }

  /** Removes what was prepared for these layers and not committed. */
  async remove(layers: Iterable<number>, signal: AbortSignal): Promise<void> {
    const { snapshots } = this.#parts;
    await Promise.all([...layers].map((index) => snapshots.remove(this.#key(this.#layer(index)), signal)));
  }

  async #prepare(index: number, signal: AbortSignal): Promise<Prepared> {
    const { snapshots, lease, plan, nowMs } = this.#parts;
    const layer = this.#layer(index);
    const request = {
      key: this.#key(layer),
      chainId: layer.chainId,
      parent: plan.layers[index - 1]?.chainId ?? '',
      lease: await lease.current(nowMs(), signal),
    };
    return { request, mounts: await snapshots.prepare(request, signal) };
  }

  #key(layer: LayerPlan): string {
    return `extract-${this.#parts.name}-u ${layer.chainId}`;
  }

  #layer(index: number): LayerPlan {
    const layer = this.#parts.plan.layers[index];
    assert(layer !== undefined, `layer ${index} is one of the image`);
    return layer;
  }
}
