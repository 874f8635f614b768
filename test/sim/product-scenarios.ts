import { readFileSync } from 'node:fs';
import { boundSeconds, machineBoundSeconds } from './bound.ts';
import type { Scenario, ScenarioSize } from './scenarios.ts';
import type { Costs, Machine, WorldOptions } from './world-options.ts';

const MB = 1e6;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const LINK = (1.5e9 / 8) * 0.94;
const ORIGIN = 10e9 / 8;

/** Published P95 of the product that Shoal re-imagines, s: 1000 nodes of 4 vCPU, agent of 1 CPU, time includes decompression. */
const PUBLISHED = [
  { image: '512MBx8', layers: 8, layerBytes: 512 * MIB, p95Seconds: 116 },
  { image: '10GBx1', layers: 1, layerBytes: 10 * GIB, p95Seconds: 380 },
  { image: '4GBx5', layers: 5, layerBytes: 4 * GIB, p95Seconds: 555 },
  { image: '10GBx2', layers: 2, layerBytes: 10 * GIB, p95Seconds: 590 },
  { image: '512MBx40', layers: 40, layerBytes: 512 * MIB, p95Seconds: 475 },
  { image: '20GBx1', layers: 1, layerBytes: 20 * GIB, p95Seconds: 660 },
  { image: '2GBx10', layers: 10, layerBytes: 2 * GIB, p95Seconds: 493 },
] as const;

/** Content over layer: incompressible, and what the layers of common images come to. */
const RATIOS = [1, 2.9] as const;
/** Their goal at a ratio of 1: half of what is published. */
const PART_OF_PUBLISHED = 0.5;
/** An image is modelled by at least this many chunks, of at most 8 MiB: larger ones are worse at being in the page cache in time. */
const CHUNKS_MIN = 1000;
const CHUNK_FACTOR_MAX = 4;

type Published = (typeof PUBLISHED)[number];

export const PRODUCT_SCENARIOS: readonly Scenario[] = [
  ...PUBLISHED.flatMap((row) => RATIOS.map((ratio) => scenarioOf(row, ratio))),
  ...PUBLISHED.map((row) => scenarioKept(row)),
];

/** The same where containerd does not discard layers that are unpacked: it reads each blob once more, for its digest. */
function scenarioKept(row: Published): Scenario {
  const scenario = scenarioOf(row, 1);
  return {
    ...scenario,
    name: `${scenario.name}-kept`,
    title: `${scenario.title}, and containerd keeps the blobs`,
    options: (size, seed) => {
      const world = scenario.options(size, seed);
      return { ...world, ...(world.machine && { machine: { ...world.machine, keepsBlobs: true } }) };
    },
    isLong: true,
  };
}

function scenarioOf(row: Published, ratio: number): Scenario {
  const { image, layers, layerBytes, p95Seconds } = row;
  const imageBytes = layers * layerBytes;
  const chunks = imageBytes / (2 * MIB);
  const chunkFactor = Math.min(CHUNK_FACTOR_MAX, 2 ** Math.floor(Math.log2(chunks / CHUNKS_MIN)));
  return {
    name: `product-${image}-${ratio}x`,
    title: `pull and unpack ${image}, content ${ratio} times the layers`,
    size: { nodes: 1000, imageBytes },
    options: (size, seed) => options(size, seed, layers, ratio),
    bound: (world) => Math.max(boundSeconds(world), machineBoundSeconds(world)),
    extras: ({ nodes, options: { machine, blobSizesBytes } }) => {
      const image = blobSizesBytes.reduce((sum, size) => sum + size, 0);
      const read = nodes.reduce((sum, node) => sum + node.machine.readBytes, 0) / nodes.length;
      const written = nodes.reduce((sum, node) => sum + node.machine.writtenBytes, 0) / nodes.length;
      return [
        { name: 'diskReadsOverImage', value: read / image },
        {
          name: 'cpuBusySeconds',
          value: nodes.reduce((sum, node) => sum + node.machine.cpuMs, 0) / nodes.length / 1000,
        },
        { name: 'diskBusySeconds', value: (read + written) / (machine?.diskBytesPerSecond ?? 1) },
      ];
    },
    goals: {
      originOverImage: 1.05,
      ...(ratio === 1 && { p95Seconds: PART_OF_PUBLISHED * p95Seconds }),
    },
    note: `published ${p95Seconds} s; ours is simulated: ${2 * chunkFactor} MiB chunks, 10 Gbit/s origin, 768 MB page cache, 3 layers at once, 1 unpacked, containerd discards unpacked layers, costs.json`,
    chunkFactor,
  };
}

function options(size: ScenarioSize, seed: number, layers: number, ratio: number): WorldOptions {
  return {
    nodes: size.nodes,
    seed,
    blobSizesBytes: Array.from({ length: layers }, () => Math.floor(size.imageBytes / layers)),
    upBytesPerSecond: LINK,
    downBytesPerSecond: LINK,
    originBytesPerSecond: ORIGIN,
    latencyMs: 0.5,
    originLatencyMs: 5,
    startSpreadMs: 1000,
    machine: machineOf(ratio),
  };
}

/** Disk of 220 MB/s, one CPU for the agent; of its 1 GB three quarters are page cache of what it wrote last. */
function machineOf(unpackedOverPacked: number): Machine {
  return {
    diskBytesPerSecond: 220 * MB,
    cores: 1,
    costs: readCosts(),
    unpackedOverPacked,
    pageCacheBytes: 768 * MB,
    dirtyBytes: 128 * MB,
    layersAtOnce: 3,
    unpackWorkers: 1,
  };
}

function readCosts(): Costs {
  return JSON.parse(readFileSync(new URL('costs.json', import.meta.url), 'utf8')) as Costs;
}
