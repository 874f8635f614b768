import { Prng } from '../../shim/swarm/prng.ts';
import { boundSeconds, zoneBoundSeconds } from './bound.ts';
import { budgetScenario } from './budget-scenario.ts';
import { PRODUCT_SCENARIOS } from './product-scenarios.ts';
import type { SimNode } from './sim-node.ts';
import type { World } from './world.ts';
import type { Fault, WorldOptions } from './world-options.ts';

/** A figure of a scenario besides time and origin bytes, and how large it may be, if there is a goal. */
export interface Extra {
  readonly name: string;
  readonly value: number;
  readonly goal?: number;
}

export interface ScenarioSize {
  readonly nodes: number;
  readonly imageBytes: number;
}

/** One row of the table that `make sim` prints. */
export interface Scenario {
  readonly name: string;
  readonly title: string;
  readonly size: ScenarioSize;
  options(size: ScenarioSize, seed: number): WorldOptions;
  /** The bound with what the row adds to it, s; `boundSeconds` by default. */
  bound?(options: WorldOptions): number;
  /** Nodes whose time counts; all that finished by default. */
  counts?(node: SimNode, options: WorldOptions): boolean;
  extras?(world: World): Extra[];
  readonly goals: {
    readonly p95OverBound?: number;
    readonly p95Seconds?: number;
    readonly originOverImage: number;
  };
  /** Assumptions, printed beside the figures. */
  readonly note?: string;
  /** How many real chunks a modelled one stands for. */
  readonly chunkFactor?: number;
  /** Only run when asked for. */
  readonly isLong?: boolean;
}

const MB = 1e6;
const GB = 1e9;
/** Ethernet of 1 Gbit/s. */
const LINK = 125 * MB;
const THOUSAND: ScenarioSize = { nodes: 1000, imageBytes: 1 * GB };
/** What all nodes take at least when links are equal, ms. */
const idealMs = ({ imageBytes }: ScenarioSize): number => (imageBytes / LINK) * 1000;

/** Equal links, one layer, an origin of eight links, all start within a second. */
function burst({ nodes, imageBytes }: ScenarioSize, seed: number): WorldOptions {
  return {
    nodes,
    seed,
    blobSizesBytes: [imageBytes],
    upBytesPerSecond: LINK,
    downBytesPerSecond: LINK,
    originBytesPerSecond: 8 * LINK,
    latencyMs: 0.5,
    originLatencyMs: 5,
    startSpreadMs: 1000,
  };
}

/** A tenth of all nodes, others for another seed. */
function tenth(nodes: number, seed: number, part: number): number[] {
  const all = new Prng(seed * 31 + 7).shuffle(Array.from({ length: nodes }, (_, index) => index));
  return all.slice(Math.round((part * nodes) / 10), Math.round(((part + 1) * nodes) / 10));
}

function churn(size: ScenarioSize, seed: number): WorldOptions {
  const prng = new Prng(seed + 1000);
  const within = () => idealMs(size) * (0.25 + prng.below(1000) / 2000);
  const faults = tenth(size.nodes, seed, 0).map((node): Fault => ({ kind: 'crash', atMs: within(), node }));
  const startMs = new Map(tenth(size.nodes, seed, 1).map((node) => [node, within()]));
  return { ...burst(size, seed), faults, startMs };
}

function slowUplinks(size: ScenarioSize, seed: number): WorldOptions {
  return { ...burst(size, seed), upOf: new Map(tenth(size.nodes, seed, 0).map((node) => [node, LINK / 4])) };
}

function threeZones(size: ScenarioSize, seed: number): WorldOptions {
  const linkBytesPerSecond = (size.nodes / 3) * LINK * 0.1;
  return { ...burst(size, seed), zones: { count: 3, linkBytesPerSecond } };
}

const REQUESTS_PER_SECOND = 20;
/** Chunks that one ranged GET may ask for at most: `leaseChunksAlone`. */
const RUN_BYTES_MAX = 32 * 2 ** 20;

const MAIN_SCENARIOS: readonly Scenario[] = [
  {
    name: 'burst',
    title: 'equal links, all start within 1 s, origin of 8 links',
    size: THOUSAND,
    options: burst,
    goals: { p95OverBound: 1.1, originOverImage: 1.01 },
  },
  {
    name: 'slow-uplinks',
    title: 'same, a tenth at a quarter of the upload (the others’ time)',
    size: THOUSAND,
    options: slowUplinks,
    counts: (node, { upOf }) => !upOf?.has(node.index),
    goals: { p95OverBound: 1.15, originOverImage: 1.01 },
  },
  {
    name: 'churn',
    title: 'same, a tenth dies midway, a tenth joins late (survivors)',
    size: THOUSAND,
    options: churn,
    counts: (node) => node.isAlive,
    goals: { p95OverBound: 1.2, originOverImage: 1.03 },
  },
  {
    name: 'spread-start',
    title: 'same, start spread over half of the ideal time',
    size: THOUSAND,
    options: (size, seed) => ({ ...burst(size, seed), startSpreadMs: idealMs(size) / 2 }),
    goals: { p95OverBound: 1.15, originOverImage: 1.01 },
  },
  {
    name: 'thin-origin',
    title: 'origin of 1 link',
    size: THOUSAND,
    options: (size, seed) => ({ ...burst(size, seed), originBytesPerSecond: LINK }),
    goals: { p95OverBound: 1.15, originOverImage: 1.01 },
  },
  {
    name: 'rate-limit',
    title: `origin answers 429 above ${REQUESTS_PER_SECOND} requests/s`,
    size: THOUSAND,
    options: (size, seed) => ({ ...burst(size, seed), originRequestsPerSecond: REQUESTS_PER_SECOND }),
    bound: (options) => {
      const requests = Math.ceil((options.blobSizesBytes[0] ?? 0) / RUN_BYTES_MAX);
      return Math.max(boundSeconds(options), requests / REQUESTS_PER_SECOND);
    },
    extras: ({ counts, nowMs }) => {
      const allowed = REQUESTS_PER_SECOND * (1 + nowMs / 1000);
      return [{ name: 'requestsOverLimit', value: counts.originRequests / allowed, goal: 1.05 }];
    },
    goals: { p95OverBound: 1.15, originOverImage: 1.01 },
  },
  {
    name: 'zones',
    title: '3 zones, links between them a tenth of a zone’s uplinks',
    size: THOUSAND,
    options: threeZones,
    bound: (options) => Math.max(boundSeconds(options), zoneBoundSeconds(options)),
    extras: ({ counts, options }) => {
      const value = counts.crossZoneBytes / (options.blobSizesBytes[0] ?? 1);
      return [{ name: 'crossZoneOverImage', value, goal: 2.2 }];
    },
    goals: { p95OverBound: 1.25, originOverImage: 1.01 },
  },
  {
    name: 'few-of-many',
    title: '10 nodes want it, the others do not',
    size: THOUSAND,
    options: (size, seed) => ({
      ...burst(size, seed),
      idle: Array.from({ length: size.nodes - 10 }, (_, index) => index + 10),
    }),
    extras: ({ counts }) => {
      const value = counts.idleBytes / (counts.peerBytes + counts.originBytes);
      return [{ name: 'idleBytesPart', value, goal: 0.001 }];
    },
    goals: { originOverImage: 1.01 },
  },
  ...[10, 100].map((nodes) => ofSize(nodes, false)),
  ofSize(5000, true),
];

/** Efficiency by number of nodes: `burst` is the one of 1000. */
function ofSize(nodes: number, isLong: boolean): Scenario {
  return {
    name: `burst-${nodes}`,
    title: `${nodes} nodes`,
    size: { nodes, imageBytes: 1 * GB },
    options: burst,
    goals: { p95OverBound: 1.15, originOverImage: 1.01 },
    isLong,
  };
}

export const SCENARIOS: readonly Scenario[] = [
  ...MAIN_SCENARIOS,
  budgetScenario(burst),
  ...PRODUCT_SCENARIOS,
];
