import { setTimeout as sleep } from 'node:timers/promises';
import { CoordinationV1Api, type KubeConfig, type V1Lease, V1MicroTime } from '@kubernetes/client-node';
import type { Logger } from 'pino';
import { callOptions, describeCallError, orUndefined, statusOf } from './kube-client.ts';
import {
  holdsLease,
  type LeaseObservation,
  type LeaseRecord,
  type LeaseTimes,
  observeLease,
  planLease,
} from './lease-plan.ts';

export interface LeaderElectionOptions {
  readonly kubeConfig: KubeConfig;
  readonly namespace: string;
  readonly leaseName: string;
  /** Different for each replica: the pod's name. */
  readonly identity: string;
  readonly times: LeaseTimes;
  readonly logger: Logger;
}

const CONFLICT = 409;

/**
 * Runs `lead` while this replica holds the lease; its signal is aborted when the lease is lost or `signal` is. At the end the
 * lease is given up, so that another replica follows at once. Resolves when `signal` is aborted and `lead` has ended.
 */
export async function runElected(
  options: LeaderElectionOptions,
  lead: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const candidate = new Candidate(options);
  while (!signal.aborted) {
    if (await candidate.tryHold(signal)) await leadWhileHeld(options, candidate, lead, signal);
    else await sleep(options.times.retryMs, undefined, { signal }).catch(() => undefined);
  }
}

async function leadWhileHeld(
  { times, logger, identity }: LeaderElectionOptions,
  candidate: Candidate,
  lead: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  logger.info({ identity }, 'this replica leads');
  const lost = new AbortController();
  const ended = lead(AbortSignal.any([signal, lost.signal])).catch((error: unknown) => {
    logger.error({ reason: describeCallError(error) }, 'the work of the leader failed');
    lost.abort();
  });
  while (!signal.aborted && !lost.signal.aborted) {
    const pause = AbortSignal.any([signal, lost.signal]);
    await sleep(times.retryMs, undefined, { signal: pause }).catch(() => undefined);
    if (signal.aborted || lost.signal.aborted) break;
    await candidate.tryHold(AbortSignal.any([signal, AbortSignal.timeout(times.renewDeadlineMs)]));
    if (!candidate.holds()) lost.abort();
  }
  lost.abort();
  await ended;
  logger.info({ identity }, 'this replica leads no more');
  await candidate.release();
}

class Candidate {
  readonly #options: LeaderElectionOptions;
  readonly #api: CoordinationV1Api;
  #seen: LeaseObservation | undefined;
  #renewedAtMs: number | undefined;

  constructor(options: LeaderElectionOptions) {
    this.#options = options;
    this.#api = options.kubeConfig.makeApiClient(CoordinationV1Api);
  }

  holds(): boolean {
    return holdsLease(this.#renewedAtMs, performance.now(), this.#options.times);
  }

  /** One look, and one write where it is due. True when the lease is ours from now on. Never rejects. */
  async tryHold(signal: AbortSignal): Promise<boolean> {
    const startedMs = performance.now();
    try {
      const held = await this.#step(signal);
      if (held) this.#renewedAtMs = startedMs;
      return held;
    } catch (error) {
      const reason = describeCallError(error);
      if (!signal.aborted && statusOf(error) !== CONFLICT)
        this.#options.logger.warn({ reason }, 'lease not updated');
      return false;
    }
  }

  /** Gives the lease up, if it is ours: a courtesy to the next, so failures do not matter. */
  async release(): Promise<void> {
    this.#renewedAtMs = undefined;
    const signal = AbortSignal.timeout(this.#options.times.retryMs);
    try {
      const lease = await this.#read(signal);
      if (lease?.spec?.holderIdentity !== this.#options.identity) return;
      await this.#replace(lease, { ...lease.spec, holderIdentity: '' }, signal);
    } catch (error) {
      this.#options.logger.debug({ reason: describeCallError(error) }, 'lease not given up');
    }
  }

  async #step(signal: AbortSignal): Promise<boolean> {
    const lease = await this.#read(signal);
    const nowMs = performance.now();
    this.#seen = lease === undefined ? undefined : observeLease(this.#seen, recordOf(lease), nowMs);
    const step = planLease(this.#seen, this.#options.identity, nowMs);
    if (step === 'wait') {
      this.#renewedAtMs = undefined;
      return false;
    }
    if (lease === undefined) await this.#create(signal);
    else await this.#hold(lease, step === 'take', signal);
    return true;
  }

  #read(signal: AbortSignal): Promise<V1Lease | undefined> {
    const { leaseName: name, namespace } = this.#options;
    return orUndefined(this.#api.readNamespacedLease({ name, namespace }, callOptions(signal)));
  }

  async #create(signal: AbortSignal): Promise<void> {
    const { leaseName: name, namespace, identity, times } = this.#options;
    const now = new V1MicroTime();
    const spec = {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(times.durationMs / 1000),
      acquireTime: now,
      renewTime: now,
      leaseTransitions: 0,
    };
    const request = { namespace, body: { metadata: { name, namespace }, spec } };
    await this.#api.createNamespacedLease(request, callOptions(signal));
  }

  async #hold(lease: V1Lease, taken: boolean, signal: AbortSignal): Promise<void> {
    const { identity, times } = this.#options;
    const now = new V1MicroTime();
    const spec = {
      ...lease.spec,
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(times.durationMs / 1000),
      renewTime: now,
      ...(taken && { acquireTime: now, leaseTransitions: (lease.spec?.leaseTransitions ?? 0) + 1 }),
    };
    await this.#replace(lease, spec, signal);
  }

  /** With the version that was read, so that of two candidates one fails. */
  async #replace(lease: V1Lease, spec: V1Lease['spec'], signal: AbortSignal): Promise<void> {
    const { leaseName: name, namespace } = this.#options;
    const body: V1Lease = { ...lease, ...(spec && { spec }) };
    await this.#api.replaceNamespacedLease({ name, namespace, body }, callOptions(signal));
  }
}

function recordOf({ spec }: V1Lease): LeaseRecord {
  return {
    holder: spec?.holderIdentity,
    durationMs: (spec?.leaseDurationSeconds ?? 0) * 1000,
    // The client gives it as text, whatever its types say.
    renewTime: String(spec?.renewTime ?? ''),
  };
}
