import { setTimeout as sleep } from 'node:timers/promises';
import {
  CoreV1Api,
  type KubeConfig,
  type KubernetesListObject,
  type KubernetesObject,
  ListWatch,
  type RequestContext,
  Watch,
} from '@kubernetes/client-node';
import { callOptions } from './kube-client.ts';

/** What is kept of an object: enough for the client's cache to tell a change, and what the handler reads. */
export interface WatchedMetadata {
  readonly name: string;
  readonly annotation: string | undefined;
}

export interface MetadataWatchOptions {
  readonly kubeConfig: KubeConfig;
  readonly kind: 'pods' | 'secrets';
  readonly namespace: string;
  /** The one annotation that is kept. */
  readonly annotation: string;
  readonly onSet: (metadata: WatchedMetadata) => void;
  readonly onRemoved: (metadata: WatchedMetadata) => void;
  /** A list or watch failed and is tried again. */
  readonly onFailure: (error: unknown) => void;
}

/** Objects a list is asked for in pages of, so that a large namespace is never in memory at once. */
const PAGE_SIZE = 500;
const RETRY_FIRST_MS = 1_000;
const RETRY_LONGEST_MS = 60_000;

/**
 * A list and watch of names, versions and one annotation: the API server sends metadata alone, so that contents of
 * secrets that nobody asked about never get here. Pods that have ended are left out, as kubelet pulls nothing for them.
 * Failures are told and tried again, until the signal is aborted.
 *
 * @returns After the first complete list, or when the signal is aborted.
 */
export function watchMetadata(options: MetadataWatchOptions, signal: AbortSignal): Promise<void> {
  const { kubeConfig, kind, namespace, annotation, onSet, onRemoved } = options;
  const listWatch = new ListWatch<KubernetesObject>(
    `/api/v1/namespaces/${encodeURIComponent(namespace)}/${kind}`,
    new MetadataWatch(kubeConfig, annotation, signal),
    () => listMetadata(options, signal),
    false,
    undefined,
    kind === 'pods' ? UNFINISHED_PODS : undefined,
  );
  const read = (object: KubernetesObject): WatchedMetadata => ({
    name: object.metadata?.name ?? '',
    annotation: object.metadata?.annotations?.[annotation],
  });
  listWatch.on('add', (object) => onSet(read(object)));
  listWatch.on('update', (object) => onSet(read(object)));
  listWatch.on('delete', (object) => onRemoved(read(object)));
  signal.addEventListener('abort', () => void listWatch.stop(), { once: true });
  return keepStarted(listWatch, options.onFailure, signal);
}

const UNFINISHED_PODS = 'status.phase!=Succeeded,status.phase!=Failed';

/** The client's informer stops at the first error; started again it goes on from where it was. */
function keepStarted(
  listWatch: ListWatch<KubernetesObject>,
  onFailure: (error: unknown) => void,
  signal: AbortSignal,
): Promise<void> {
  const { promise: listed, resolve } = Promise.withResolvers<void>();
  let failed = Promise.withResolvers<unknown>();
  listWatch.on('error', (error: unknown) => failed.resolve(error));
  const aborted = new Promise<undefined>((done) => {
    signal.addEventListener('abort', () => done(undefined), { once: true });
  });
  const run = async () => {
    for (let failures = 0; !signal.aborted; failures++) {
      const startedMs = performance.now();
      failed = Promise.withResolvers();
      await listWatch.start().catch(failed.resolve);
      if (listWatch.latestResourceVersion() !== '') resolve();
      const error = await Promise.race([failed.promise, aborted]);
      if (signal.aborted) break;
      onFailure(error);
      if (performance.now() - startedMs > RETRY_LONGEST_MS) failures = 0;
      const delayMs = Math.min(RETRY_LONGEST_MS, RETRY_FIRST_MS * 2 ** Math.min(failures, 10));
      await sleep(delayMs, undefined, { signal }).catch(() => undefined);
    }
    await listWatch.stop();
    resolve();
  };
  run();
  return listed;
}

/** Asks for metadata in each watch, and keeps next to nothing of it. */
class MetadataWatch extends Watch {
  readonly #annotation: string;
  readonly #signal: AbortSignal;

  constructor(kubeConfig: KubeConfig, annotation: string, signal: AbortSignal) {
    super(
      Object.create(kubeConfig, {
        applySecurityAuthentication: {
          value: async (context: RequestContext) => {
            await kubeConfig.applySecurityAuthentication(context);
            context.setHeaderParam('Accept', metadataOf('PartialObjectMetadata'));
          },
        },
      }) as KubeConfig,
    );
    this.#annotation = annotation;
    this.#signal = signal;
  }

  override async watch(...[path, query, onEvent, onDone]: Parameters<Watch['watch']>) {
    const reduced: typeof onEvent = (phase, object, event) =>
      onEvent(phase, phase === 'ERROR' ? object : reduce(object, this.#annotation), event);
    const controller = await super.watch(path, query, reduced, onDone);
    if (this.#signal.aborted) controller.abort();
    return controller;
  }
}

async function listMetadata(
  { kubeConfig, kind, namespace, annotation }: MetadataWatchOptions,
  signal: AbortSignal,
): Promise<KubernetesListObject<KubernetesObject>> {
  const api = kubeConfig.makeApiClient(CoreV1Api);
  const items: KubernetesObject[] = [];
  let resourceVersion = '';
  let next: string | undefined;
  do {
    const page = { namespace, limit: PAGE_SIZE, ...(next !== undefined && { _continue: next }) };
    const options = callOptions(signal, metadataOf('PartialObjectMetadataList'));
    const list =
      kind === 'pods'
        ? await api.listNamespacedPod({ ...page, fieldSelector: UNFINISHED_PODS }, options)
        : await api.listNamespacedSecret(page, options);
    // Without any, the API server sends null.
    for (const item of list.items ?? []) items.push(reduce(item, annotation));
    resourceVersion = list.metadata?.resourceVersion ?? '';
    next = list.metadata?._continue || undefined;
  } while (next !== undefined);
  return { items, metadata: { resourceVersion } };
}

function metadataOf(kind: 'PartialObjectMetadata' | 'PartialObjectMetadataList'): string {
  return `application/json;as=${kind};g=meta.k8s.io;v=v1,application/json`;
}

function reduce({ metadata }: KubernetesObject, annotation: string): KubernetesObject {
  const value = metadata?.annotations?.[annotation];
  return {
    metadata: {
      ...(metadata?.name !== undefined && { name: metadata.name }),
      ...(metadata?.namespace !== undefined && { namespace: metadata.namespace }),
      ...(metadata?.resourceVersion !== undefined && { resourceVersion: metadata.resourceVersion }),
      ...(value !== undefined && { annotations: { [annotation]: value } }),
    },
  };
}
