import { type BoundPodFacts, readBoundPod, uidOf } from './bound-pod.ts';
import { type FollowOptions, followList } from './follow-list.ts';

/** Kubelet runs 110 pods by default and 500 where people push it. */
export const BOUND_PODS_MAX = 1000;

export interface BoundPodsOptions extends Pick<FollowOptions, 'openAccess' | 'onState' | 'random'> {
  readonly nodeName: string;
  readonly keyPrefix: string;
  /** A pod was bound to the node, or what is read of it has changed. */
  readonly onBound: (pod: BoundPodFacts) => void;
  /** The pod has ended or gone. */
  readonly onUnbound: (podUid: string) => void;
}

/** Follows the pods of one node until `signal` aborts. */
export async function followBoundPods(options: BoundPodsOptions, signal: AbortSignal): Promise<void> {
  const pods = new BoundPods(options);
  const query = { fieldSelector: `spec.nodeName=${options.nodeName}` };
  await followList(
    {
      ...options,
      list: { path: '/api/v1/pods', query },
      itemsMax: BOUND_PODS_MAX,
      onList: (items) => pods.replace(items),
      onChange: (type, item) => (type === 'put' ? pods.put(item) : pods.remove(uidOf(item))),
    },
    signal,
  );
}

/** What was told of which pod: a pod changes many times in what nobody here looks at. */
class BoundPods {
  readonly #options: BoundPodsOptions;
  readonly #told = new Map<string, string>();

  constructor(options: BoundPodsOptions) {
    this.#options = options;
  }

  replace(items: readonly unknown[]): void {
    const present = new Set(items.map(uidOf));
    for (const podUid of this.#told.keys()) if (!present.has(podUid)) this.remove(podUid);
    for (const item of items) this.put(item);
  }

  put(item: unknown): void {
    const pod = readBoundPod(item, this.#options.keyPrefix);
    if (pod === undefined) return;
    const { podUid, isWaiting: _, ...lasting } = pod;
    const what = JSON.stringify(lasting);
    if (pod.isOver) this.remove(podUid);
    else if (
      this.#told.get(podUid) !== what &&
      (this.#told.has(podUid) || this.#told.size < BOUND_PODS_MAX)
    ) {
      this.#told.set(podUid, what);
      this.#options.onBound(pod);
    }
  }

  remove(podUid: string | undefined): void {
    if (podUid !== undefined && this.#told.delete(podUid)) this.#options.onUnbound(podUid);
  }
}
