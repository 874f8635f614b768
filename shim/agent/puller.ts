import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { parseP2pHostRule } from '../base/p2p-address.ts';
import { DiskCache } from '../cache/disk-cache.ts';
import type { RoomEvent } from '../cache/room-keeper.ts';
import type { Config } from '../config/settings.ts';
import type { CacheTotals } from '../observe/metric-sources.ts';
import type { TransferCounters } from '../peer/transfer-counters.ts';
import { createTransferEngine } from '../peer/transfer-engine.ts';
import type { TransferObserver } from '../peer/transfer-observer.ts';
import { openOrigin } from '../registry/open-origin.ts';
import { PlainHosts } from '../registry/plain-hosts.ts';
import { proxySettingsFrom } from '../registry/proxy-settings.ts';
import { createUnpackPool } from '../unpack/create-unpack-pool.ts';
import type { UnpackPool } from '../unpack/unpack-pool.ts';
import type { PodWarming } from '../warm/pod-warming.ts';
import { type WarmEnd, Warmer, type WarmerOptions } from '../warm/warmer.ts';
import { takeCacheDirectory } from './cache-directory.ts';
import { hasDiskRoom } from './disk-room.ts';
import { ManifestMemory } from './manifest-memory.ts';
import { nodePlatform } from './node-platform.ts';
import { openStore } from './open-store.ts';
import { OutageGrace } from './outage-grace.ts';
import { peersOf } from './peers.ts';
import { type PullEnd, PullService } from './pull-service.ts';

export interface PullerOptions {
  readonly log: Logger;
  readonly onEnd: (end: PullEnd) => void;
  readonly stop: AbortSignal;
  /** Told of every chunk that moves. */
  readonly observer?: TransferObserver;
  /** Pods whose images are warmed; without, none are. */
  readonly warming?: { readonly pods: PodWarming; readonly onEnd: (end: WarmEnd) => void };
  /** For one pull from the command line: no peers, and a cache of its own where an agent has the usual one. */
  readonly alone?: boolean;
}

/** All that pulls need, opened and wired: store, cache, transfer engine, unpack workers. */
export interface Puller extends AsyncDisposable {
  readonly pulls: PullService;
  readonly counters: TransferCounters;
  readonly unpack: UnpackPool;
  /** Root of containerd's content store, where there is one to be seen. */
  readonly contentRoot: string | undefined;
  /** containerd's, as it was when last asked; empty where there is none. */
  readonly containerdVersion: () => string;
  /** Undefined where nothing is warmed. */
  readonly warmer: Warmer | undefined;
  cacheTotals(): CacheTotals;
  peers(): { readonly known: number; readonly connected: number };
  /** Before the end: serves peers what only this node may hold, for 20 s at most. */
  drain(): Promise<void>;
}

const BYTES_PER_MB = 1_000_000;
/** In the cache directory, beside the blobs that the rights are for. */
const RIGHTS_FILE = 'rights.json';
/** More unpack threads than this move no more bytes: the disk or the memory bus is busy then. */
const UNPACK_WORKERS_MAX = 4;

/** Opens everything; what was opened before a failure is closed again. @throws StoreUnavailable, CacheUnavailable, ListenFailed */
export async function openPuller(config: Config, options: PullerOptions): Promise<Puller> {
  await using opening = new AsyncDisposableStack();
  const { log, onEnd, stop, alone = false } = options;
  const opened = opening.adopt(await openStore(config, { log, stop, alone }), (each) => each.close());
  const { directory } = config.p2p.v2.cache;
  const place = opening.adopt(await takeCacheDirectory(directory || opened.cacheDirectory, alone), (each) =>
    each.close(),
  );
  const cache = opening.adopt(await openCache(config, place.path, log), (each) => each.close());
  const rightsPath = join(place.path, RIGHTS_FILE);
  const peers = alone ? {} : { peers: { ...(await peersOf(config, log, opening)), rightsPath } };
  const watched = options.observer && { observer: options.observer };
  const engine = opening.adopt(
    await createTransferEngine({ cache, ...peers, ...watched, limits: transferLimitsOf(config) }),
    (each) => each.close(),
  );
  const workersMax = config.limits.unpackWorkers || Math.min(availableParallelism(), UNPACK_WORKERS_MAX);
  const unpack = opening.adopt(createUnpackPool({ workersMax }), (each) => each.close());
  const dependencies = {
    engine,
    unpack,
    store: opened.store,
    platform: nodePlatform(),
    privileged: process.getuid?.() === 0,
    unpackedBytesMax: config.limits.unpackedBytesMax,
    layersAtOnce: config.limits.layersAtOnce,
    stallTimeoutMs: config.limits.stallTimeoutMs,
  };
  const openOrigin = originOpener(config, log, () => {
    engine.counters.outagePulls += 1;
  });
  const nowMs = (): number => performance.now();
  const parts = { dependencies, openOrigin, log, nowMs, directory: place.path };
  const warmer = options.warming && config.warm.enable ? warmerOf(config, options.warming, parts) : undefined;
  if (warmer !== undefined) opening.adopt(warmer, (each) => each.close());
  const pulls = new PullService({
    dependencies: { ...dependencies, ...(warmer && { ahead: warmer }) },
    openOrigin,
    p2pRules: config.p2p.addresses.map(parseP2pHostRule),
    log,
    onEnd,
    ...(warmer && { onBegin: (image) => warmer.pullBegins(image) }),
    nowMs,
  });
  const closing = opening.move();
  return {
    pulls,
    warmer,
    counters: engine.counters,
    unpack,
    contentRoot: opened.contentRoot,
    containerdVersion: opened.containerdVersion ?? (() => ''),
    cacheTotals: () => ({
      allocatedBytes: cache.capacityBytes,
      usedBytes: cache.ownBytes,
      evictedBytes: cache.evictedBytes,
      diskUsedRatio: cache.diskUsedRatio,
    }),
    peers: () => ({ known: engine.swarmSnapshot()?.members ?? 0, connected: engine.connections }),
    drain: () => engine.drain(),
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

function openCache(config: Config, directory: string, log: Logger): Promise<DiskCache> {
  const { capacity, highWaterPercent, lowWaterPercent } = config.p2p.v2.cache;
  return DiskCache.open({
    directory,
    capacityBytes: capacity,
    waterMarks: { highPercent: highWaterPercent, lowPercent: lowWaterPercent },
    onRoom: (event) => tellRoom(event, log),
  });
}

function tellRoom(event: RoomEvent, log: Logger): void {
  const { kind, ...facts } = event;
  if (kind === 'evicted') log.info(facts, 'dropped idle layers from the cache');
  else if (event.isFull)
    log.warn(facts, 'the disk is above high water: no layer is kept longer than its pull');
  else log.info(facts, 'the disk is below high water again');
}

const MS_PER_MINUTE = 60_000;

function warmerOf(
  config: Config,
  { pods, onEnd }: NonNullable<PullerOptions['warming']>,
  parts: Pick<WarmerOptions, 'dependencies' | 'openOrigin' | 'log' | 'nowMs'> & {
    readonly directory: string;
  },
): Warmer {
  const { atOnce, holdMinutes, freePercentMin } = config.warm;
  const warmer = new Warmer({
    ...parts,
    limits: { atOnce, holdMs: holdMinutes * MS_PER_MINUTE },
    candidates: (wishes, reference) => pods.candidates(wishes, reference),
    throttle: (wishes, bytes) => pods.throttle(wishes, bytes),
    hasRoom: (imageBytes) => hasDiskRoom(parts.directory, imageBytes, freePercentMin),
    onEnd,
  });
  pods.warmWith(warmer);
  return warmer;
}

function originOpener(
  config: Config,
  log: Logger,
  onOutagePull: () => void,
): ConstructorParameters<typeof PullService>[0]['openOrigin'] {
  const memory = new ManifestMemory();
  const common = {
    configPath: config.containerd.configPath,
    ownAddresses: [config.http.listen],
    proxy: proxySettingsFrom(process.env),
    plainHosts: new PlainHosts(),
    warn: (message: string): void => log.warn(message),
  };
  const grace = outageGraceOf(config, log, onOutagePull);
  return (reference, credentials) => {
    const heldManifest = memory.readerOf(reference);
    const given = { ...(credentials && { credentials }), ...(heldManifest && { heldManifest }) };
    const origin = memory.watch(openOrigin({ ...common, reference, ...given }), reference);
    return grace?.watch(origin, reference, credentials) ?? origin;
  };
}

function outageGraceOf(config: Config, log: Logger, onOutagePull: () => void): OutageGrace | undefined {
  const { mode, graceSeconds, tags } = config.originDown;
  if (mode === 'deny') return undefined;
  return new OutageGrace({
    graceMs: graceSeconds * 1000,
    withTags: tags,
    nowMs: () => performance.now(),
    onGrace: ({ host, repository, digest, tag }, passedMsAgo) => {
      onOutagePull();
      const image = `${host}/${repository}${digest === undefined ? `:${tag}` : `@${digest}`}`;
      const secondsAgo = Math.round(passedMsAgo / 1000);
      log.warn({ image, secondsAgo }, 'the registry does not answer: going by what it answered before');
    },
  });
}

function transferLimitsOf(config: Config) {
  const { proxyConcurrencyLimit, throttleLimitMB } = config.p2p.v2;
  const { originLimitMB, originRequestsPerSecond, uploadLimitMB, stallTimeoutMs } = config.limits;
  return {
    downloadsMax: proxyConcurrencyLimit,
    localBytesPerSecond: throttleLimitMB * BYTES_PER_MB,
    originBytesPerSecond: originLimitMB * BYTES_PER_MB,
    originRequestsPerSecond,
    uploadBytesPerSecond: uploadLimitMB * BYTES_PER_MB,
    blobStallMs: stallTimeoutMs,
  };
}
