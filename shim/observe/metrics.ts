import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { CacheTotals, TransferTotals } from './metric-sources.ts';
import { transferCounters } from './metric-sources.ts';
import { registerTrafficGauges } from './traffic-gauges.ts';
import type { TrafficType } from './traffic-meter.ts';
import { TrafficMeter, trafficTypes } from './traffic-meter.ts';

export interface MetricsOptions {
  /** Address at which peers reach this node, `IP:PORT`: the label `node`. */
  readonly node: string;
  readonly mode: 'agent' | 'root';
  /** Monotonic time. */
  readonly nowMs: () => number;
  /** What other parts count for themselves; read at every tick and scrape. */
  readonly sources: {
    readonly transfer?: () => TransferTotals;
    readonly cache?: () => CacheTotals;
    readonly peers?: () => number;
    readonly pullsRunning?: () => number;
    readonly droppedLogLines?: () => number;
  };
}

/** How a pull ended, as the label `outcome` has it. */
export type PullOutcome = 'done' | 'failed' | 'handedOver' | 'passedThrough';

/** Rates need a sample at least this often. */
const tickMs = 1000;
/** Reasons are a closed set by design; this bounds the series should one ever hold something else. */
const reasonsMax = 100;
/** From a warm small image to a big one over a slow link. */
const secondsBuckets = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640];

/** Everything that Prometheus may ask of the agent. Each instance has a registry of its own. */
export class Metrics {
  readonly registry = new Registry();
  readonly #options: MetricsOptions;
  readonly #meters = new Map<TrafficType, TrafficMeter>();
  readonly #reasons = new Set<string>();
  readonly #pulls: Counter<'outcome' | 'reason'>;
  readonly #handOvers: Counter<'reason'>;
  readonly #decisions: Counter<'accelerate' | 'reason'>;
  readonly #applies: Counter<'outcome'>;
  readonly #warmUps: Counter<'outcome' | 'reason'>;
  readonly #warmBytes: Counter<'source'>;
  readonly #seconds: Histogram<'outcome'>;
  readonly #timer: NodeJS.Timeout;

  constructor(options: MetricsOptions) {
    this.#options = options;
    const registers = [this.registry];
    for (const type of trafficTypes) this.#meters.set(type, new TrafficMeter());
    this.#pulls = new Counter({
      name: 'shoal_pulls_total',
      help: 'Pulls that ended, by how and why',
      labelNames: ['outcome', 'reason'],
      registers,
    });
    this.#handOvers = new Counter({
      name: 'shoal_hand_overs_total',
      help: 'Pulls that were begun here and finished by containerd, by reason',
      labelNames: ['reason'],
      registers,
    });
    this.#decisions = new Counter({
      name: 'shoal_policy_decisions_total',
      help: 'Pulls asked for, by whether policy lets them be accelerated, and why',
      labelNames: ['accelerate', 'reason'],
      registers,
    });
    this.#applies = new Counter({
      name: 'shoal_applied_layers_total',
      help: 'Layers that containerd asked this differ to apply: applied, or handed over to its own',
      labelNames: ['outcome'],
      registers,
    });
    this.#warmUps = new Counter({
      name: 'shoal_warm_ups_total',
      help: 'Images that were to be brought ahead of their pulls, by how that ended and why',
      labelNames: ['outcome', 'reason'],
      registers,
    });
    this.#warmBytes = new Counter({
      name: 'shoal_warm_bytes_total',
      help: 'Bytes of layers that were brought ahead of pulls, by where they came from',
      labelNames: ['source'],
      registers,
    });
    this.#seconds = new Histogram({
      name: 'shoal_pull_seconds',
      help: 'Time of a pull from request to answer, s',
      labelNames: ['outcome'],
      buckets: secondsBuckets,
      registers,
    });
    this.#registerSources();
    collectDefaultMetrics({ register: this.registry });
    this.#timer = setInterval(() => this.#tick(), tickMs).unref();
  }

  /** One request was answered; a negative size is a failed one. */
  recordTraffic(type: TrafficType, sizeBytes: number, latencyUs: number): void {
    this.#meters.get(type)?.record(sizeBytes, latencyUs, this.#options.nowMs());
  }

  /** How long one answer took whose bytes the transfer engine counts by itself. */
  recordLatency(type: TrafficType, latencyUs: number): void {
    this.#meters.get(type)?.recordLatency(latencyUs, this.#options.nowMs());
  }

  /** A pull ended. `reason` is an error code or a word of policy, never free text. */
  recordPull(end: {
    readonly outcome: PullOutcome;
    readonly reason: string;
    readonly seconds: number;
  }): void {
    const reason = this.#bounded(end.reason);
    this.#pulls.inc({ outcome: end.outcome, reason });
    this.#seconds.observe({ outcome: end.outcome }, end.seconds);
    if (end.outcome === 'handedOver') this.#handOvers.inc({ reason });
  }

  recordDecision(accelerate: boolean, reason: string): void {
    this.#decisions.inc({ accelerate: String(accelerate), reason: this.#bounded(reason) });
  }

  /** The warm-up of an image ended. `reason` is an error code. */
  recordWarmUp(end: {
    readonly outcome: string;
    readonly reason: string;
    readonly counts: {
      readonly originBytes: number;
      readonly peerBytes: number;
      readonly cacheBytes: number;
    };
  }): void {
    this.#warmUps.inc({ outcome: this.#bounded(end.outcome), reason: this.#bounded(end.reason) });
    this.#warmBytes.inc({ source: 'origin' }, end.counts.originBytes);
    this.#warmBytes.inc({ source: 'peer' }, end.counts.peerBytes);
    this.#warmBytes.inc({ source: 'cache' }, end.counts.cacheBytes);
  }

  recordApply(outcome: 'applied' | 'handedOver'): void {
    this.#applies.inc({ outcome });
  }

  /** The exposition format, and its content type. */
  async render(): Promise<{ readonly contentType: string; readonly text: string }> {
    this.#tick();
    return { contentType: this.registry.contentType, text: await this.registry.metrics() };
  }

  close(): void {
    clearInterval(this.#timer);
    this.registry.clear();
  }

  #registerSources(): void {
    const { node, mode, nowMs, sources } = this.#options;
    const registry = this.registry;
    const cache = (): CacheTotals => sources.cache?.() ?? { allocatedBytes: 0, usedBytes: 0 };
    registerTrafficGauges({ registry, labels: { node, mode }, meters: this.#meters, cache, nowMs });
    gauge(registry, 'shoal_peers', 'Peers that membership knows', () => sources.peers?.() ?? 0);
    gauge(
      registry,
      'shoal_pulls_running',
      'Accelerated pulls under way',
      () => sources.pullsRunning?.() ?? 0,
    );
    gauge(
      registry,
      'shoal_cache_capacity_bytes',
      'Room for idle layers in the disk cache',
      () => cache().allocatedBytes,
    );
    gauge(registry, 'shoal_cache_used_bytes', 'Bytes in the disk cache', () => cache().usedBytes);
    gauge(
      registry,
      'shoal_cache_disk_used_ratio',
      "How full the disk cache's file system is, 0 to 1",
      () => cache().diskUsedRatio ?? 0,
    );
    evictedByReason(registry, cache);
    total(
      registry,
      'shoal_log_lines_dropped_total',
      'Log and audit lines that were not written in time',
      () => sources.droppedLogLines?.() ?? 0,
    );
    for (const { name, help, read } of transferCounters) {
      total(registry, name, help, () => (sources.transfer === undefined ? 0 : read(sources.transfer())));
    }
    bytesBySource(registry, () => sources.transfer?.());
  }

  /** What the transfer engine counts by itself becomes traffic like any other. */
  #tick(): void {
    const totals = this.#options.sources.transfer?.();
    if (totals === undefined) return;
    const nowMs = this.#options.nowMs();
    const feed = (type: TrafficType, bytes: number, operations: number): void =>
      this.#meters.get(type)?.recordTotals({ bytes, operations }, nowMs);
    feed('download', totals.originBytes, totals.originReads);
    feed('peer', totals.peerBytes + totals.servedBytes, totals.peerChunks + totals.servedChunks);
    feed('disk', totals.cacheBytes, totals.blobsOpened);
    feed('pread', totals.localBytes, totals.blobsFinished);
  }

  #bounded(reason: string): string {
    if (!this.#reasons.has(reason) && this.#reasons.size >= reasonsMax) return 'other';
    this.#reasons.add(reason);
    return reason;
  }
}

function gauge(registry: Registry, name: string, help: string, read: () => number): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    collect() {
      this.set(read());
    },
  });
}

/** A counter whose value lives elsewhere. */
function total(registry: Registry, name: string, help: string, read: () => number): void {
  new Counter({
    name,
    help,
    registers: [registry],
    collect() {
      this.reset();
      this.inc(read());
    },
  });
}

function evictedByReason(registry: Registry, read: () => CacheTotals): void {
  new Counter({
    name: 'shoal_cache_evicted_bytes_total',
    help: 'Bytes of idle layers that were dropped from the disk cache: for its capacity, for high water, or after a failed write',
    labelNames: ['reason'],
    registers: [registry],
    collect() {
      this.reset();
      for (const [reason, bytes] of Object.entries(read().evictedBytes ?? {})) this.inc({ reason }, bytes);
    },
  });
}

function bytesBySource(registry: Registry, read: () => TransferTotals | undefined): void {
  new Counter({
    name: 'shoal_bytes_total',
    help: 'Bytes of layers that pulls received, by where they came from',
    labelNames: ['source'],
    registers: [registry],
    collect() {
      const totals = read();
      this.reset();
      this.inc({ source: 'origin' }, totals?.originBytes ?? 0);
      this.inc({ source: 'peer' }, totals?.peerBytes ?? 0);
      this.inc({ source: 'cache' }, totals?.cacheBytes ?? 0);
    },
  });
}
