import { hostname } from 'node:os';
import type { Logger } from 'pino';
import { ErrorCode, type ShoalError } from '../base/errors.ts';
import { parseP2pHostRule } from '../base/p2p-address.ts';
import type { Config } from '../config/settings.ts';
import type { BoundPodFacts } from '../kubernetes/bound-pod.ts';
import { accessFrom, type OpenAccess } from '../kubernetes/cluster-access.ts';
import { followBoundPods } from '../kubernetes/follow-bound-pods.ts';
import { followLabelledNamespaces } from '../kubernetes/labelled-namespaces.ts';
import { PullSecrets } from '../kubernetes/pull-secrets.ts';
import type { PolicySettings } from '../policy/policy.ts';
import type { BoundPod, FindCredentials } from '../warm/pod-warming.ts';
import { policySettingsOf } from './policy-settings.ts';

/** Who is told of the pods that are bound to this node. */
export interface BoundPodSink {
  bound(pod: BoundPod): void;
  unbound(podUid: string): void;
}

/**
 * What the API server tells, where the agent is set to ask it. Without it, or while it is away, the agent works by what it was
 * configured and told so far.
 */
export class Cluster {
  readonly #config: Config;
  readonly #log: Logger;
  readonly #configured: PolicySettings;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>[] = [];
  #policy: PolicySettings;

  constructor(config: Config, log: Logger) {
    this.#config = config;
    this.#log = log;
    this.#configured = policySettingsOf(config);
    this.#policy = this.#configured;
  }

  /** As configured, with the namespaces that carry the label now. */
  get policy(): PolicySettings {
    return this.#policy;
  }

  /** Starts the watches that are configured. Returns at once. */
  start(pods: BoundPodSink): void {
    const { watchNamespaces, watchPods, kubeconfig } = this.#config.kubernetes;
    const openAccess = accessFrom(kubeconfig, process.env);
    const namespacesAsked = watchNamespaces ? this.#watchNamespaces(openAccess) : Promise.resolve();
    if (watchPods) this.#running.push(this.#watchPods(openAccess, pods, namespacesAsked));
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#running);
  }

  /** Resolves when the namespaces are known for the first time, or cannot be. */
  #watchNamespaces(openAccess: OpenAccess): Promise<void> {
    const asked = Promise.withResolvers<void>();
    const tell = this.#stateTeller('namespaces');
    const options = {
      openAccess,
      keyPrefix: this.#configured.keyPrefix,
      random: Math.random,
      onNames: (names: readonly string[]): void => {
        this.#policy = withOptedIn(this.#configured, names);
        this.#log.info({ namespaces: names.length }, 'namespaces that opt in have changed');
        asked.resolve();
      },
      onState: (failure: ShoalError | undefined): void => {
        tell(failure);
        asked.resolve();
      },
    };
    this.#running.push(followLabelledNamespaces(options, this.#stop.signal).finally(asked.resolve));
    return asked.promise;
  }

  /** Pods come after the namespaces, by whose labels it is judged whether they are warmed. */
  async #watchPods(openAccess: OpenAccess, pods: BoundPodSink, after: Promise<void>): Promise<void> {
    await after;
    const findFor = this.#credentialFinder();
    const options = {
      openAccess,
      nodeName: this.#config.kubernetes.nodeName || hostname().trim().toLowerCase(),
      keyPrefix: this.#configured.keyPrefix,
      random: Math.random,
      onBound: (pod: BoundPodFacts): void => pods.bound(boundPodOf(pod, findFor?.(pod))),
      onUnbound: (podUid: string): void => pods.unbound(podUid),
      onState: this.#stateTeller('pods'),
    };
    await followBoundPods(options, this.#stop.signal);
  }

  #credentialFinder(): ((pod: BoundPodFacts) => FindCredentials) | undefined {
    const { kubernetes, p2p } = this.#config;
    if (kubernetes.kubeletKubeconfig === '') return undefined;
    const secrets = new PullSecrets({
      openAccess: accessFrom(kubernetes.kubeletKubeconfig, process.env),
      p2pRules: p2p.addresses.map(parseP2pHostRule),
      onFailure: (error) =>
        this.#log[error.code === ErrorCode.ConfigInvalid ? 'warn' : 'debug'](
          { error },
          'no pull secret for warming',
        ),
    });
    return ({ namespace, secrets: names }) =>
      (registryHost, repository) =>
        secrets.find({ namespace, secrets: names, registryHost, repository }, this.#stop.signal);
  }

  #stateTeller(what: string): (failure: ShoalError | undefined) => void {
    return (failure) => {
      if (failure === undefined) this.#log.info({ what }, 'the API server answers again');
      else
        this.#log.warn({ what, error: failure }, 'the API server cannot be asked; what it said last stands');
    };
  }
}

function withOptedIn(configured: PolicySettings, names: readonly string[]): PolicySettings {
  const { namespaces } = configured;
  return { ...configured, namespaces: { ...namespaces, optIn: [...namespaces.optIn, ...names] } };
}

function boundPodOf(pod: BoundPodFacts, credentials: FindCredentials | undefined): BoundPod {
  const { podUid, namespace, name, labels, annotations, images, isWaiting } = pod;
  const facts = { podUid, namespace, name, labels, annotations, images, warm: isWaiting };
  return credentials === undefined ? facts : { ...facts, credentials };
}
