import type { Logger } from 'pino';
import { isShoalError } from '../base/errors.ts';
import { type P2pConfig, parseP2pConfig } from '../base/p2p-config.ts';
import { RateGate } from '../peer/rate-gate.ts';
import { decide, type PolicyDecision, type PolicySettings } from '../policy/policy.ts';
import type { Credentials } from '../registry/origin.ts';
import { formatReference, parseReference, type Reference } from '../registry/reference.ts';
import type { CredentialCandidate } from './credential-candidate.ts';
import { CredentialMemory } from './credential-memory.ts';
import { type KnownPod, type ListedPod, PodRegistry, type PodSource } from './pod-registry.ts';
import type { WarmWish } from './warm-queue.ts';
import type { Warmer } from './warmer.ts';

const BYTES_PER_MB = 1_000_000;
/** Credentials in memory are looked through this often, so that they leave it in time, ms. */
const CREDENTIALS_LOOK_MS = 60_000;

export interface NoticedPod extends KnownPod {
  /** False for a pod that runs already: it is remembered, and nothing is warmed. */
  readonly warm: boolean;
}

/** What kubelet's own configuration lets this node read an image with. */
export type FindCredentials = (
  registryHost: string,
  repository: string,
) => Credentials | undefined | Promise<Credentials | undefined>;

/** A pod that was bound to this node, as the API server has it. */
export interface BoundPod extends NoticedPod {
  /** As in the pod's spec, in the order in which kubelet pulls them. */
  readonly images: readonly string[];
  readonly credentials?: FindCredentials;
}

/** A PullImage as far as warming others learns from it. */
export interface PulledWith {
  readonly image: string;
  readonly namespace: string | undefined;
  readonly credentials: Credentials | undefined;
  /** Whether the registry accepted them; undefined: it has not said. */
  readonly accepted: boolean | undefined;
}

export interface PodWarmingOptions {
  readonly policy: () => PolicySettings;
  /** An image's name at its origin; undefined for what is no reference. Default: its full name. */
  readonly originNameOf?: (image: string) => string | undefined;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/**
 * The pods of this node: what the policy says of them, also to pulls that do not name their pod, and what is to be warmed
 * for them.
 */
export class PodWarming {
  readonly #options: PodWarmingOptions;
  readonly #pods = new PodRegistry();
  readonly #memory = new CredentialMemory();
  readonly #finders = new Map<string, FindCredentials>();
  readonly #rates = new Map<string, RateGate>();
  readonly #look: NodeJS.Timeout;
  #warmer: Pick<Warmer, 'want' | 'forget' | 'reconsider'> | undefined;

  constructor(options: PodWarmingOptions) {
    this.#options = options;
    this.#look = setInterval(() => this.#memory.expire(options.nowMs()), CREDENTIALS_LOOK_MS).unref();
  }

  get podCount(): number {
    return this.#pods.size;
  }

  /** Without one, pods are remembered and nothing is warmed. */
  warmWith(warmer: Pick<Warmer, 'want' | 'forget' | 'reconsider'>): void {
    this.#warmer = warmer;
  }

  /** The runtime has begun to run a pod, or tells that it does. */
  noticed(pod: NoticedPod): void {
    const config = this.#configOf(pod);
    this.#note('runtime', pod, config?.images ?? [], config);
  }

  /** All pods that the runtime has. */
  synced(pods: readonly NoticedPod[]): void {
    const listed = pods.map((pod) => this.#listed(pod, this.#configOf(pod)?.images ?? []));
    const gone = this.#pods.sync('runtime', listed, this.#options.nowMs());
    for (const uid of gone) this.#forget(uid);
    for (const pod of pods.filter(({ warm }) => warm)) this.noticed(pod);
  }

  /** A sandbox of the pod was removed. */
  removed(podUid: string, sandboxId?: string): void {
    this.#remove('runtime', podUid, sandboxId);
  }

  /** The API server has bound a pod to this node. */
  bound(pod: BoundPod): void {
    if (pod.credentials !== undefined) this.#finders.set(pod.podUid, pod.credentials);
    this.#note('watch', pod, pod.images, this.#configOf(pod));
  }

  /** The API server has no such pod on this node any more. */
  unbound(podUid: string): void {
    this.#remove('watch', podUid);
  }

  /**
   * The pod that a pull which names none follows: every pod that lists the image has opted in, or one has opted out. Undefined
   * where no pod lists it, or some do not want it accelerated.
   */
  follow(image: string): KnownPod | undefined {
    const name = this.#nameOf(image);
    if (name === undefined) return undefined;
    const pods = this.#pods
      .listing(name)
      .map((pod) => ({ pod, decision: this.#decide(pod, parseReference(name)) }));
    const out = pods.find(({ decision }) => decision.reason === 'opted-out');
    if (out !== undefined) return out.pod;
    const all = pods.every(({ decision }) => decision.action === 'accelerate');
    return all ? pods.at(-1)?.pod : undefined;
  }

  /** Learns from a pull that has ended. */
  learn({ image, namespace, credentials, accepted }: PulledWith): void {
    const name = this.#nameOf(image);
    if (name === undefined || namespace === undefined || credentials === undefined) return;
    const { host } = parseReference(name);
    if (accepted === false) this.#memory.drop(namespace, host);
    if (accepted !== true) return;
    this.#memory.remember(namespace, host, credentials, this.#options.nowMs());
    this.#warmer?.reconsider(namespace, host);
  }

  /** What an image of these pods may be read with, the best first. */
  async candidates(wishes: readonly WarmWish[], reference: Reference): Promise<CredentialCandidate[]> {
    const { host, repository } = reference;
    const found: CredentialCandidate[] = [];
    for (const { podUid } of wishes) {
      const credentials = await this.#configured(podUid, host, repository);
      if (credentials !== undefined) found.push({ credentials });
    }
    for (const namespace of new Set(wishes.map((wish) => wish.namespace))) {
      const credentials = this.#memory.find(namespace, host, this.#options.nowMs());
      const onRefused = (): void => this.#memory.drop(namespace, host);
      if (credentials !== undefined) found.push({ credentials, onRefused });
    }
    return found;
  }

  /** Waits as the pods' own limits want; an image that a pod without a limit wants too is not slowed down. */
  throttle(wishes: readonly WarmWish[], bytes: number): Promise<void> | undefined {
    const rates = wishes.map(({ podUid }) => this.#rates.get(podUid));
    return rates.includes(undefined) ? undefined : rates[0]?.take(bytes);
  }

  close(): void {
    clearInterval(this.#look);
    this.#memory.clear();
    for (const rate of this.#rates.values()) rate.close();
  }

  /** What cannot be looked up now is as good as not there. */
  async #configured(podUid: string, host: string, repository: string): Promise<Credentials | undefined> {
    try {
      return await this.#finders.get(podUid)?.(host, repository);
    } catch (error) {
      this.#options.log.debug({ podUid, host, error }, 'credentials for warming cannot be looked up');
      return undefined;
    }
  }

  #note(source: PodSource, pod: NoticedPod, images: readonly string[], config: P2pConfig | undefined): void {
    const listed = this.#listed(pod, images);
    for (const uid of this.#pods.note(source, listed, this.#options.nowMs())) this.#forget(uid);
    if (!pod.warm) return;
    const wanted = listed.images.filter(
      (image) => this.#decide(listed, parseReference(image)).action === 'accelerate',
    );
    if (wanted.length > 0) this.#want(listed, wanted, config);
  }

  #want(pod: KnownPod, images: readonly string[], config: P2pConfig | undefined): void {
    const { podUid, namespace } = pod;
    const { warmAtOnce = Number.POSITIVE_INFINITY, throttleLimitMB } = config?.limits ?? {};
    if (throttleLimitMB !== undefined && !this.#rates.has(podUid))
      this.#rates.set(podUid, new RateGate(throttleLimitMB * BYTES_PER_MB));
    this.#warmer?.want({ podUid, namespace, images, atOnce: warmAtOnce });
  }

  #remove(source: PodSource, podUid: string, sandboxId?: string): void {
    if (source === 'watch') this.#finders.delete(podUid);
    if (this.#pods.remove(source, podUid, sandboxId)) this.#forget(podUid);
  }

  #forget(podUid: string): void {
    this.#finders.delete(podUid);
    this.#rates.get(podUid)?.close();
    this.#rates.delete(podUid);
    this.#warmer?.forget(podUid);
  }

  #listed(pod: NoticedPod, images: readonly string[]): ListedPod {
    const { warm: _, ...known } = pod;
    const names = images.map((image) => this.#nameOf(image)).filter((name) => name !== undefined);
    return { ...known, images: [...new Set(names)] };
  }

  #decide(pod: KnownPod, { host, repository }: Reference): PolicyDecision {
    const input = {
      registry: host,
      repository,
      namespace: pod.namespace,
      podLabels: new Map(Object.entries(pod.labels)),
      podAnnotations: new Map(Object.entries(pod.annotations)),
      imageAnnotations: new Map<string, string>(),
    };
    return decide(input, this.#options.policy());
  }

  /** A config that cannot be read is the pod author's, and no reason to hold up the pod. */
  #configOf(pod: KnownPod): P2pConfig | undefined {
    const text = pod.annotations[`${this.#options.policy().keyPrefix}/p2p-config`];
    if (text === undefined) return undefined;
    try {
      return parseP2pConfig(text);
    } catch (error) {
      if (!isShoalError(error)) throw error;
      const { namespace, name } = pod;
      this.#options.log.info({ namespace, name, error }, 'nothing is warmed for a pod');
      return undefined;
    }
  }

  #nameOf(image: string): string | undefined {
    return (this.#options.originNameOf ?? fullNameOf)(image);
  }
}

/** Undefined for what is no reference. */
export function fullNameOf(image: string): string | undefined {
  try {
    return formatReference(parseReference(image));
  } catch (error) {
    if (isShoalError(error)) return undefined;
    throw error;
  }
}
