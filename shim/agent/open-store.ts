import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { ErrorCode, isShoalError, throwIfAborted } from '../base/errors.ts';
import type { Config } from '../config/settings.ts';
import { type ContainerdStore, openContainerdStore } from '../containerd/containerd-store.ts';
import type { ImageStore } from '../store/image-store.ts';
import { LayoutStore } from '../store/layout-store.ts';

/** containerd may start after us; until then the front sends every pull to it. */
const CONTAINERD_POLL_MS = 500;

/** The store as configured, with what the rest of the agent has to know of it. */
export interface OpenedStore {
  readonly store: ImageStore;
  /** Where the cache lives unless configured: on the store's file system, so that layers are linked and not copied. */
  readonly cacheDirectory: string;
  /** Root of containerd's content store, where it can be seen. */
  readonly contentRoot?: string;
  /** containerd's, as it was when last asked. */
  readonly containerdVersion?: () => string;
  close(): Promise<void>;
}

/**
 * Opens the store. An agent waits for containerd until `stop` aborts; a pull from the command line (`alone`) does not.
 * @throws StoreUnavailable, Cancelled
 */
export async function openStore(
  config: Config,
  { log, stop, alone }: { readonly log: Logger; readonly stop: AbortSignal; readonly alone: boolean },
): Promise<OpenedStore> {
  if (config.store === 'layout') return openLayout(config.layout.directory);
  const store = alone
    ? await openContainerdStore(storeOptionsOf(config), stop)
    : await waitForContainerd(config, log, stop);
  const swept = await store.sweep(stop);
  log.info(swept, 'swept what dead agents left in containerd');
  const { contentRoot } = await store.setup(stop);
  const root = contentRoot === undefined ? FALLBACK_ROOT : dirname(contentRoot);
  return {
    store,
    cacheDirectory: join(root, CACHE_NAME),
    ...(contentRoot !== undefined && { contentRoot }),
    containerdVersion: () => store.containerdVersion,
    close: () => store.close(),
  };
}

async function openLayout(directory: string): Promise<OpenedStore> {
  const store = await LayoutStore.open(directory);
  return { store, cacheDirectory: join(directory, '.cache'), close: () => store.close() };
}

/** Named like containerd's own directories beside it. */
const CACHE_NAME = 'io.shoal.cache';
/** When containerd's root cannot be seen, layers are copied anyway. */
const FALLBACK_ROOT = '/var/lib/shoal';

async function waitForContainerd(config: Config, log: Logger, stop: AbortSignal): Promise<ContainerdStore> {
  for (let attempt = 0; ; attempt += 1) {
    throwIfAborted(stop, 'open containerd');
    try {
      return await openContainerdStore(storeOptionsOf(config), stop);
    } catch (error) {
      if (!isShoalError(error, ErrorCode.StoreUnavailable)) throw error;
      if (attempt === 0) log.warn({ error }, 'waiting for containerd');
    }
    await sleep(CONTAINERD_POLL_MS, undefined, { signal: stop }).catch(() => undefined);
  }
}

function storeOptionsOf(config: Config) {
  const { configFile, snapshotter, discardUnpackedLayers } = config.containerd;
  return {
    socket: config.cri.containerdSocket,
    configFile,
    ...(snapshotter !== 'auto' && { snapshotter }),
    ...(discardUnpackedLayers && { discardUnpackedLayers }),
  };
}
