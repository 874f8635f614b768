import { performance } from 'node:perf_hooks';
import type { Logger } from 'pino';
import { ErrorCode, isShoalError } from '../base/errors.ts';
import { originImageOf, parseP2pHostRule } from '../base/p2p-address.ts';
import { metricsPlace } from '../config/metrics-place.ts';
import type { Config } from '../config/settings.ts';
import { startCriServer } from '../cri/cri-server.ts';
import { createPullService as createCriPullService } from '../cri/pull-service.ts';
import { listenUnix } from '../cri/unix-listener.ts';
import { Upstream } from '../cri/upstream.ts';
import { createApplyService } from '../differ/apply-service.ts';
import { createObserveHandler, startExporter } from '../observe/exporter.ts';
import { Metrics } from '../observe/metrics.ts';
import { newTransferCounters } from '../peer/transfer-counters.ts';
import { gzipBackend } from '../unpack/inflate.ts';
import { fullNameOf, PodWarming } from '../warm/pod-warming.ts';
import type { WarmEnd } from '../warm/warmer.ts';
import { Cluster } from './cluster.ts';
import type { AgentStatus } from './control-protocol.ts';
import { createControlServer } from './control-server.ts';
import { createCriPullHandler } from './cri-pull-handler.ts';
import { prepareFirstPull } from './first-pull.ts';
import { closeServer, startHttpServer } from './http-server.ts';
import { IdleTrim } from './idle-trim.ts';
import { openObservers } from './observers.ts';
import { peerAddressOf } from './peers.ts';
import { PullResults } from './pull-results.ts';
import type { PullEnd } from './pull-service.ts';
import { openPuller, type Puller } from './puller.ts';
import { createTrafficObserver } from './traffic-observer.ts';

/**
 * Runs the node agent until `stop` aborts: opens what pulls need, then the ways in (control, CRI, HTTP, exporter), and
 * closes them in the opposite order. @throws ConfigInvalid, ListenFailed, StoreUnavailable, CacheUnavailable
 */
export async function runAgent(config: Config, version: string, stop: AbortSignal): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const observers = opened.adopt(await openObservers(config), (each) => each.close());
  const { log } = observers;
  const startedMs = performance.now();
  let puller: Puller | undefined;
  const metrics = opened.adopt(
    metricsOf(config, () => puller, observers.droppedLines),
    (each) => each.close(),
  );
  const isBusy = (): boolean =>
    (puller?.pulls.snapshot().length ?? 0) + (puller?.warmer?.queue.count('running') ?? 0) > 0;
  const trim = opened.adopt(new IdleTrim(isBusy), (each) => each.close());
  const onEnd = (end: PullEnd): void => {
    recordPull(metrics, end);
    if (end.kind === 'failed' && isShoalError(end.error, ...FULL_DISK)) puller?.warmer?.relieve();
    trim.touch();
  };
  const onWarmed = (end: WarmEnd): void => {
    metrics.recordWarmUp(end);
    log[end.outcome === 'warmed' ? 'info' : 'debug'](end, 'warm-up ended');
    trim.touch();
  };
  const cluster = new Cluster(config, log);
  const pods = opened.adopt(podWarmingOf(config, cluster, log), (each) => each.close());
  const results = new PullResults();
  const observer = createTrafficObserver(metrics, observers.audit);
  puller = opened.use(
    await openPuller(config, { log, onEnd, stop, observer, warming: { pods, onEnd: onWarmed } }),
  );
  const status = (): AgentStatus =>
    statusOf(config, version, { puller: puller as Puller, pods }, (performance.now() - startedMs) / 1000);
  await prepareFirstPull(config);
  const control = createControlServer({ pulls: puller.pulls, pods, results, status });
  await listenUnix(control, config.control.socket);
  opened.defer(() => closeServer(control));
  cluster.start(pods);
  opened.defer(() => cluster.close());
  const parts = { cluster, pods, results, metrics, log };
  if (config.store === 'containerd') await openCri(config, puller, parts, opened);
  await openHttp(config, metrics, status, opened);
  log.info(
    {
      version,
      store: config.store,
      peer: peerAddressOf(config),
      cri: config.cri.socket,
      inflater: gzipBackend(),
    },
    'agent is ready',
  );
  trim.touch();
  await aborted(stop);
  log.info('agent is stopping');
  await puller.drain();
}

/** A store that says so may just be out of room. */
const FULL_DISK = [ErrorCode.CacheUnavailable, ErrorCode.StoreFailed];

interface CriParts {
  readonly cluster: Cluster;
  readonly pods: PodWarming;
  readonly results: PullResults;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** The pods of this node, whose images may be named by P2P addresses. */
function podWarmingOf(config: Config, cluster: Cluster, log: Logger): PodWarming {
  const p2pRules = config.p2p.addresses.map(parseP2pHostRule);
  const originNameOf = (image: string): string | undefined =>
    fullNameOf(originImageOf(image, p2pRules) ?? image);
  return new PodWarming({ policy: () => cluster.policy, originNameOf, log, nowMs: () => performance.now() });
}

async function openCri(
  config: Config,
  puller: Puller,
  { cluster, pods, results, metrics, log }: CriParts,
  opened: AsyncDisposableStack,
): Promise<void> {
  const containerd = opened.adopt(new Upstream('containerd', config.cri.containerdSocket), (each) =>
    each.close(),
  );
  const handler = createCriPullHandler({
    policy: () => cluster.policy,
    pulls: puller.pulls,
    pods,
    results,
    onForeignPull: () => puller.warmer?.pullBegins(undefined) ?? (() => undefined),
    onDecision: ({ action, reason }) => metrics.recordDecision(action === 'accelerate', reason),
    log,
  });
  const onHandOver = (reason: string, image: string): void =>
    log.debug({ reason, image }, 'containerd pulls');
  const onUnnamed = (reason: string, image: string): void =>
    log.warn({ reason, image }, 'pulled, but the image lacks its P2P name');
  const p2pRules = config.p2p.addresses.map(parseP2pHostRule);
  const { containerdVersion } = puller;
  const service = opened.adopt(
    createCriPullService({ containerd, containerdVersion, handler, onHandOver, onUnnamed, p2pRules }),
    (each) => each.close(),
  );
  const server = await startCriServer({
    socketPath: config.cri.socket,
    containerd,
    onPullImage: service.onPullImage,
    ...differHandlers(config, puller, { containerd, metrics, log }, opened),
  });
  opened.defer(() => server.close());
}

/** The differ for containerd, where the blobs that it is asked to apply can be read. */
function differHandlers(
  config: Config,
  { unpack, contentRoot }: Puller,
  parts: { readonly containerd: Upstream; readonly metrics: Metrics; readonly log: Logger },
  opened: AsyncDisposableStack,
) {
  if (contentRoot === undefined) return {};
  const service = opened.adopt(
    createApplyService({
      unpack,
      contentRoot,
      unpackedBytesMax: config.limits.unpackedBytesMax,
      containerd: parts.containerd,
      onEnd: (end) => {
        parts.metrics.recordApply(end.kind);
        if (end.kind === 'applied') parts.log.debug(end, 'applied a layer for containerd');
        else parts.log.info({ error: end.error }, 'containerd applies a layer itself');
      },
      nowMs: () => performance.now(),
    }),
    (each) => each.close(),
  );
  return { handlers: service.handlers };
}

async function openHttp(
  config: Config,
  metrics: Metrics,
  status: () => AgentStatus,
  opened: AsyncDisposableStack,
): Promise<void> {
  const observe = createObserveHandler({ metrics, unhealthyBecause: () => undefined, status });
  const place = metricsPlace(config);
  const http = await startHttpServer(config.http.listen, place.kind === 'http' ? observe : undefined);
  opened.defer(() => closeServer(http));
  if (place.kind !== 'port') return;
  const exporter = await startExporter({ host: EXPORTER_HOST, port: place.port }, observe);
  opened.defer(() => exporter.close());
}

/** Scrapers come from other hosts. */
const EXPORTER_HOST = '0.0.0.0';

function metricsOf(config: Config, puller: () => Puller | undefined, droppedLogLines: () => number): Metrics {
  const none = { allocatedBytes: 0, usedBytes: 0 };
  return new Metrics({
    node: peerAddressOf(config),
    mode: config.DeployConfig.mode,
    nowMs: () => performance.now(),
    sources: {
      transfer: () => puller()?.counters ?? newTransferCounters(),
      cache: () => puller()?.cacheTotals() ?? none,
      peers: () => puller()?.peers().known ?? 0,
      pullsRunning: () => puller()?.pulls.snapshot().length ?? 0,
      droppedLogLines,
    },
  });
}

function recordPull(metrics: Metrics, end: PullEnd): void {
  const { seconds } = end;
  if (end.kind === 'done') metrics.recordPull({ outcome: 'done', reason: 'none', seconds });
  else
    metrics.recordPull({
      outcome: end.verdict === 'return' ? 'failed' : 'handedOver',
      reason: end.reason,
      seconds,
    });
}

function statusOf(
  config: Config,
  version: string,
  { puller, pods }: { readonly puller: Puller; readonly pods: PodWarming },
  uptimeSeconds: number,
): AgentStatus {
  const peers = puller.peers();
  const cache = puller.cacheTotals();
  const { originBytes, peerBytes, cacheBytes, servedBytes } = puller.counters;
  return {
    version,
    node: peerAddressOf(config),
    mode: config.DeployConfig.mode,
    uptimeSeconds,
    store: config.store,
    peersKnown: peers.known,
    peersConnected: peers.connected,
    cacheUsedBytes: cache.usedBytes,
    cacheCapacityBytes: cache.allocatedBytes,
    pulls: puller.pulls.snapshot(),
    totals: { originBytes, peerBytes, cacheBytes, servedBytes },
    warming: {
      pods: pods.podCount,
      waiting: puller.warmer?.queue.count('waiting') ?? 0,
      running: puller.warmer?.queue.count('running') ?? 0,
      held: puller.warmer?.queue.count('held') ?? 0,
    },
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
