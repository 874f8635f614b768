import type { PodNotice, PullResult } from '../shim/agent/control-protocol.ts';
import type { Container, PodSandbox, TextMap } from './nri-messages.ts';
import { ResultMemory } from './result-memory.ts';

/** What the agent is to be told of a pod. */
export type AgentMessage =
  | { readonly kind: 'started'; readonly notice: PodNotice }
  | { readonly kind: 'removed'; readonly podUid: string };

/** Sandboxes that are remembered, the oldest goes first: kubelet runs 110 pods by default, some nodes a few hundred. */
export const PODS_MAX = 4096;
/** An agent that comes back warms the pods that have started this recently, ms: older ones have pulled by themselves. */
export const WARM_WINDOW_MS = 60_000;

const MODE_KEY = 'image-accelerate-mode';
const CONFIG_KEY = 'p2p-config';
const RESULT_KEY = 'p2p-result';
const OPT_IN_VALUE = 'p2p';
const OPT_OUT_VALUE = 'off';
const IMAGE_NAME_KEY = 'io.kubernetes.cri.image-name';

interface PodRecord {
  readonly notice: PodNotice;
  readonly startedAtMs: number;
}

/**
 * The plugin's decisions: which pods the agent hears of, and what a container's annotation says. Pure: time comes in,
 * messages go out. A pod is of interest when it says something about acceleration itself, be it `off`.
 */
export class Plugin {
  #keyPrefix: string;
  readonly #results = new ResultMemory();
  /** By sandbox id, oldest first. */
  readonly #pods = new Map<string, PodRecord>();

  constructor(keyPrefix: string) {
    this.#keyPrefix = keyPrefix;
  }

  /** Before the pods are synchronized. */
  setKeyPrefix(keyPrefix: string): void {
    this.#keyPrefix = keyPrefix;
  }

  get podCount(): number {
    return this.#pods.size;
  }

  runPodSandbox(pod: PodSandbox, nowMs: number): AgentMessage | undefined {
    const notice = this.#noticeOf(pod);
    if (notice === undefined) return undefined;
    this.#remember(pod.id, { notice, startedAtMs: nowMs });
    return { kind: 'started', notice };
  }

  /** A pod whose sandbox was made anew is removed with its last one. */
  removePodSandbox(pod: PodSandbox): AgentMessage | undefined {
    const record = this.#pods.get(pod.id);
    this.#pods.delete(pod.id);
    if (record === undefined) return undefined;
    const { podUid } = record.notice;
    for (const other of this.#pods.values()) if (other.notice.podUid === podUid) return undefined;
    return { kind: 'removed', podUid };
  }

  /** Replaces everything; a pod that was known keeps its time of start. */
  synchronize(pods: readonly PodSandbox[]): void {
    const before = new Map(this.#pods);
    this.#pods.clear();
    for (const pod of pods) {
      const notice = this.#noticeOf(pod);
      const startedAtMs = before.get(pod.id)?.startedAtMs ?? Number.NEGATIVE_INFINITY;
      if (notice !== undefined) this.#remember(pod.id, { notice, startedAtMs });
    }
  }

  /** All pods that the agent should know, one notice each: that of the newest sandbox. */
  snapshot(nowMs: number): PodNotice[] {
    const newest = new Map<string, PodNotice>();
    for (const { notice, startedAtMs } of this.#pods.values())
      newest.set(notice.podUid, { ...notice, warm: notice.warm && nowMs - startedAtMs < WARM_WINDOW_MS });
    return [...newest.values()];
  }

  addResult(result: PullResult): void {
    this.#results.add(result);
  }

  /**
   * The annotations that tell how the container's image came: for pods that have opted in, and for images that were
   * accelerated for another reason, such as the pod's namespace.
   */
  createContainer(pod: PodSandbox, container: Container, now: CreationMoment): TextMap {
    const key = `${this.#keyPrefix}/${RESULT_KEY}`;
    const image = container.imageName || container.annotations[IMAGE_NAME_KEY];
    // Two plugins that set one annotation fail the container, should this one run twice.
    if (image === undefined || Object.hasOwn(container.annotations, key)) return {};
    const result = this.#results.find(image, pod.uid, now.nowMs);
    const modes = this.#modesOf(pod);
    const isOptedIn = modes.includes(OPT_IN_VALUE) && !modes.includes(OPT_OUT_VALUE);
    if (!isOptedIn && !(result?.accelerated && result.podUid === pod.uid)) return {};
    return { [key]: JSON.stringify(summaryOf(result, now.isAgentConnected)) };
  }

  #modesOf({ labels, annotations }: PodSandbox): string[] {
    const key = `${this.#keyPrefix}/${MODE_KEY}`;
    return [labels[key], annotations[key]].filter((mode) => mode !== undefined);
  }

  #noticeOf(pod: PodSandbox): PodNotice | undefined {
    const prefix = `${this.#keyPrefix}/`;
    const modes = this.#modesOf(pod);
    if (modes.length === 0 && !Object.hasOwn(pod.annotations, `${prefix}${CONFIG_KEY}`)) return undefined;
    return {
      podUid: pod.uid,
      namespace: pod.namespace,
      name: pod.name,
      sandboxId: pod.id,
      ...(pod.runtimeHandler !== '' && { runtimeHandler: pod.runtimeHandler }),
      labels: withPrefix(pod.labels, prefix),
      annotations: withPrefix(pod.annotations, prefix),
      // Whether it is accelerated at all is for the agent to say: it knows namespaces and registries.
      warm: !modes.includes(OPT_OUT_VALUE),
    };
  }

  #remember(id: string, record: PodRecord): void {
    this.#pods.delete(id);
    this.#pods.set(id, record);
    for (const oldest of this.#pods.keys()) {
      if (this.#pods.size <= PODS_MAX) return;
      this.#pods.delete(oldest);
    }
  }
}

export interface CreationMoment {
  readonly nowMs: number;
  readonly isAgentConnected: boolean;
}

function summaryOf(result: PullResult | undefined, isAgentConnected: boolean): object {
  // The image was on the node, or its pull ended while nobody told us.
  if (result === undefined)
    return { accelerated: false, reason: isAgentConnected ? 'no-pull-seen' : 'agent-unreachable' };
  const { accelerated, reason, seconds, bytes } = result;
  if (!accelerated) return { accelerated, reason };
  return { accelerated, seconds: Math.round(seconds * 1000) / 1000, bytes };
}

function withPrefix(map: TextMap, prefix: string): TextMap {
  return Object.fromEntries(Object.entries(map).filter(([key]) => key.startsWith(prefix)));
}
