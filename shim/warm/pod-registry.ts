/** Who told of a pod. What one source no longer knows, another may. */
export type PodSource = 'runtime' | 'watch';

/** A pod of this node as the policy needs it. */
export interface KnownPod {
  readonly podUid: string;
  readonly namespace: string;
  readonly name: string;
  /** Of its latest sandbox. */
  readonly sandboxId?: string;
  /** Only those under the key prefix. */
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface ListedPod extends KnownPod {
  /** Canonical names of the images that it is known to run, in the order of their pulls. */
  readonly images: readonly string[];
}

/** Kubelet runs 110 pods by default and 500 where people push it; one of each source more is dropped, the oldest first. */
export const PODS_MAX = 1024;
/** A pod may have outlived the one who told of it; then it is forgotten without a word, ms. */
export const POD_AGE_MAX_MS = 7 * 24 * 60 * 60_000;

interface Entry {
  readonly pod: ListedPod;
  readonly notedAtMs: number;
}

/** The pods of this node, by source, until they are removed. Pure and bounded. */
export class PodRegistry {
  /** Oldest first. */
  readonly #pods: Readonly<Record<PodSource, Map<string, Entry>>> = { runtime: new Map(), watch: new Map() };

  get size(): number {
    return new Set([...this.#pods.runtime.keys(), ...this.#pods.watch.keys()]).size;
  }

  /** Remembers the pod, in place of what the source said of it before. Gives the pods that this made room of. */
  note(source: PodSource, pod: ListedPod, nowMs: number): string[] {
    const pods = this.#pods[source];
    pods.delete(pod.podUid);
    pods.set(pod.podUid, { pod, notedAtMs: nowMs });
    const forgotten: string[] = [];
    for (const [uid, { notedAtMs }] of pods) {
      if (pods.size <= PODS_MAX && nowMs - notedAtMs <= POD_AGE_MAX_MS) break;
      pods.delete(uid);
      forgotten.push(uid);
    }
    return forgotten.filter((uid) => !this.has(uid));
  }

  /** Replaces all that the source has told. Gives the pods that nobody knows any more. */
  sync(source: PodSource, pods: readonly ListedPod[], nowMs: number): string[] {
    const before = [...this.#pods[source].keys()];
    this.#pods[source].clear();
    for (const pod of pods) this.note(source, pod, nowMs);
    return before.filter((uid) => !this.has(uid));
  }

  /**
   * Forgets the pod. One that is removed with a sandbox that is not its latest stays: kubelet removes the sandboxes that it has
   * replaced. Gives whether nobody knows the pod any more.
   */
  remove(source: PodSource, podUid: string, sandboxId?: string): boolean {
    const latest = this.#pods[source].get(podUid)?.pod.sandboxId;
    if (sandboxId !== undefined && latest !== undefined && latest !== sandboxId) return false;
    this.#pods[source].delete(podUid);
    return !this.has(podUid);
  }

  has(podUid: string): boolean {
    return this.#pods.runtime.has(podUid) || this.#pods.watch.has(podUid);
  }

  /** Pods that run this image, the latest last; each once, as the runtime told of it if it did. */
  listing(image: string): ListedPod[] {
    const found = new Map<string, ListedPod>();
    for (const source of ['watch', 'runtime'] as const)
      for (const [uid, { pod }] of this.#pods[source]) if (pod.images.includes(image)) found.set(uid, pod);
    return [...found.values()];
  }
}
