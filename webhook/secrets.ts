import { setTimeout as sleep } from 'node:timers/promises';
import { CoreV1Api, type KubeConfig, type V1Secret } from '@kubernetes/client-node';
import type { Logger } from 'pino';
import { isShoalError } from '../shim/base/errors.ts';
import { isSecretName, parseP2pConfig } from '../shim/base/p2p-config.ts';
import { EventTeller } from './event-teller.ts';
import { callOptions, describeCallError, orUndefined } from './kube-client.ts';
import { watchMetadata } from './metadata-watch.ts';
import type { CopyResult, WebhookMetrics } from './metrics.ts';
import { NamespaceIndex } from './namespace-index.ts';
import { type CopyAction, type CopySettings, decideCopy } from './secret-copy.ts';
import { p2pSecretName } from './secret-names.ts';
import { WorkQueue } from './work-queue.ts';

export interface SecretCopierOptions {
  readonly kubeConfig: KubeConfig;
  /** Where pull secrets are copied; each needs a RoleBinding. */
  readonly namespaces: readonly string[];
  readonly copies: CopySettings;
  /** How long a copy stays after the last pod that named its source has gone, ms. */
  readonly graceMs: number;
  readonly metrics: Pick<WebhookMetrics, 'recordCopy' | 'recordWatchRestart' | 'setQueueLength'>;
  readonly logger: Logger;
}

/** Calls to the API server at a time. */
const WORKERS = 4;
/** A key is a namespace and a name: some megabytes at most. */
const QUEUE_KEYS_MAX = 10_000;
/** Some hundred bytes each. The scheduler is tested with 150,000 pods a cluster. */
const PODS_PER_NAMESPACE_MAX = 150_000;
/** The longest that the queue is not looked at, so that no clock can make it sleep for ever. */
const IDLE_MS = 30_000;

/**
 * Copies the pull secrets that opted-in pods name, and keeps the copies as their sources are, until the signal is aborted.
 * For one replica at a time.
 */
export async function copySecrets(options: SecretCopierOptions, signal: AbortSignal): Promise<void> {
  const copier = new SecretCopier(options);
  for (const namespace of options.namespaces) copier.watch(namespace, signal);
  const workers = Array.from({ length: WORKERS }, () => copier.work(signal));
  await Promise.all(workers);
}

class SecretCopier {
  readonly #options: SecretCopierOptions;
  readonly #api: CoreV1Api;
  readonly #queue = new WorkQueue(QUEUE_KEYS_MAX);
  readonly #indexes = new Map<string, NamespaceIndex>();
  /** Namespaces whose pods and secrets are all known: before that, a copy that nobody seems to name may be named. */
  readonly #complete = new Set<string>();
  readonly #teller: EventTeller;
  #wake = new AbortController();

  constructor(options: SecretCopierOptions) {
    this.#options = options;
    this.#api = options.kubeConfig.makeApiClient(CoreV1Api);
    this.#teller = new EventTeller(this.#api);
  }

  /** Follows one namespace on its own: one that is refused does not hinder the others. */
  watch(namespace: string, signal: AbortSignal): void {
    const { kubeConfig, copies, metrics, logger } = this.#options;
    const index = new NamespaceIndex(PODS_PER_NAMESPACE_MAX);
    this.#indexes.set(namespace, index);
    const changed = (sources: readonly string[]) => this.#add(namespace, sources);
    const onFailure = (error: unknown) => {
      metrics.recordWatchRestart();
      logger.warn({ namespace, reason: describeCallError(error) }, 'watch failed: it is started again');
    };
    const common = { kubeConfig, namespace, onFailure };
    const pods = watchMetadata(
      {
        ...common,
        kind: 'pods',
        annotation: copies.keys.p2pConfig,
        onSet: ({ name, annotation }) =>
          changed(index.setPod(name, this.#namedSecrets(annotation), performance.now())),
        onRemoved: ({ name }) => changed(index.removePod(name, performance.now())),
      },
      signal,
    );
    const secrets = watchMetadata(
      {
        ...common,
        kind: 'secrets',
        annotation: copies.keys.p2pSource,
        onSet: ({ name }) => changed(index.setSecret(name)),
        onRemoved: ({ name }) => changed(index.removeSecret(name)),
      },
      signal,
    );
    Promise.all([pods, secrets]).then(() => {
      if (signal.aborted) return;
      this.#complete.add(namespace);
      logger.info({ namespace }, 'pull secrets of this namespace are copied');
      const { podsLeftOut } = index;
      if (podsLeftOut > 0) logger.warn({ namespace, podsLeftOut }, 'too many pods: some are not looked at');
      this.#add(namespace, index.sources());
    });
  }

  async work(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const key = this.#queue.take(performance.now());
      if (key === undefined) await this.#pause(signal);
      else await this.#handle(key, signal);
      this.#options.metrics.setQueueLength(this.#queue.length);
      if (this.#queue.takeOverflow()) this.#addAll();
    }
  }

  async #handle(key: string, signal: AbortSignal): Promise<void> {
    const { metrics, logger } = this.#options;
    const [namespace = '', source = ''] = key.split('/');
    try {
      const result = await this.#look(namespace, source, signal);
      metrics.recordCopy(result);
      if (result !== 'unchanged') logger.info({ namespace, source, result }, 'pull secret looked at');
      this.#queue.done(key);
    } catch (error) {
      metrics.recordCopy('failed');
      if (!signal.aborted)
        logger.warn({ namespace, source, reason: describeCallError(error) }, 'pull secret not copied');
      this.#queue.failed(key, performance.now(), Math.random());
    }
  }

  async #look(namespace: string, sourceName: string, signal: AbortSignal): Promise<CopyResult> {
    const copyName = p2pSecretName(sourceName);
    const index = this.#indexes.get(namespace);
    if (copyName === undefined || index === undefined || !isSecretName(sourceName)) return 'unchanged';
    const nowMs = performance.now();
    const { named, until } = index.naming(sourceName, nowMs, this.#options.graceMs);
    if (until !== undefined) this.#queue.add(`${namespace}/${sourceName}`, until);
    if (!named && !index.hasCopy(sourceName)) return 'unchanged';
    const source = await this.#read(namespace, sourceName, signal);
    const copy = await this.#read(namespace, copyName, signal);
    const situation = { copyName, sourceName, source, copy, isNamed: named };
    const action = decideCopy(situation, this.#options.copies);
    return this.#act(namespace, action, signal);
  }

  async #act(namespace: string, action: CopyAction, signal: AbortSignal): Promise<CopyResult> {
    switch (action.kind) {
      case 'nothing':
        return 'unchanged';
      case 'create':
        await this.#api.createNamespacedSecret({ namespace, body: action.secret }, callOptions(signal));
        return 'created';
      case 'update': {
        const name = action.secret.metadata?.name ?? '';
        const request = { namespace, name, body: action.secret };
        await this.#api.replaceNamespacedSecret(request, callOptions(signal));
        return 'updated';
      }
      case 'delete':
        await this.#delete(namespace, action.copy, signal);
        return 'deleted';
      case 'tell':
        await this.#teller.tell(action.about, action.problem, signal);
        return 'refused';
    }
  }

  /** Only the very object that was looked at. */
  async #delete(namespace: string, { metadata }: V1Secret, signal: AbortSignal): Promise<void> {
    const { name = '', uid, resourceVersion } = metadata ?? {};
    const preconditions = { ...(uid && { uid }), ...(resourceVersion && { resourceVersion }) };
    const request = { namespace, name, body: { preconditions } };
    await orUndefined(this.#api.deleteNamespacedSecret(request, callOptions(signal)));
  }

  #read(namespace: string, name: string, signal: AbortSignal): Promise<V1Secret | undefined> {
    return orUndefined(this.#api.readNamespacedSecret({ namespace, name }, callOptions(signal)));
  }

  #namedSecrets(p2pConfig: string | undefined): readonly string[] {
    if (p2pConfig === undefined) return [];
    try {
      return parseP2pConfig(p2pConfig).secrets;
    } catch (error) {
      // Anybody may write annotations.
      if (isShoalError(error)) return [];
      throw error;
    }
  }

  #add(namespace: string, sources: readonly string[]): void {
    if (!this.#complete.has(namespace)) return;
    for (const source of sources) this.#queue.add(`${namespace}/${source}`, performance.now());
    this.#wake.abort();
  }

  #addAll(): void {
    for (const [namespace, index] of this.#indexes) this.#add(namespace, index.sources());
  }

  /** Until a key is added or one's time has come. */
  async #pause(signal: AbortSignal): Promise<void> {
    if (this.#wake.signal.aborted) this.#wake = new AbortController();
    const delayMs = Math.min(IDLE_MS, (this.#queue.nextAtMs() ?? Infinity) - performance.now());
    const until = AbortSignal.any([signal, this.#wake.signal]);
    await sleep(Math.max(0, delayMs), undefined, { signal: until }).catch(() => undefined);
  }
}
