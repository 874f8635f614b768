import type { CoreV1Api, V1Secret } from '@kubernetes/client-node';
import { callOptions } from './kube-client.ts';
import { type CopyProblem, OWNER, PROBLEM_TEXTS } from './secret-copy.ts';

/** An Event lives for an hour by default; the same is told again after that. */
const AGAIN_MS = 3_600_000;
/** What was told lately; the oldest is forgotten first, at the cost of an Event too many. */
const REMEMBERED_MAX = 1_000;

/** Records Events on secrets, each problem of a secret once an hour. */
export class EventTeller {
  readonly #api: CoreV1Api;
  /** Secret and problem → when it was told. */
  readonly #told = new Map<string, number>();

  constructor(api: CoreV1Api) {
    this.#api = api;
  }

  /** @throws where the API server does not take it. */
  async tell({ metadata }: V1Secret, problem: CopyProblem, signal: AbortSignal): Promise<void> {
    const { namespace = '', name = '', uid = '', resourceVersion = '' } = metadata ?? {};
    const key = `${uid} ${problem}`;
    const nowMs = performance.now();
    if (nowMs - (this.#told.get(key) ?? Number.NEGATIVE_INFINITY) < AGAIN_MS) return;
    const now = new Date();
    const body = {
      // Kubernetes cuts the generated name to its limit.
      metadata: { namespace, generateName: `${name.slice(0, 200)}.` },
      involvedObject: { apiVersion: 'v1', kind: 'Secret', namespace, name, uid, resourceVersion },
      type: 'Warning',
      reason: problem,
      message: PROBLEM_TEXTS[problem],
      source: { component: OWNER },
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    };
    await this.#api.createNamespacedEvent({ namespace, body }, callOptions(signal));
    this.#told.delete(key);
    this.#told.set(key, nowMs);
    if (this.#told.size > REMEMBERED_MAX) this.#told.delete(this.#told.keys().next().value as string);
  }
}
