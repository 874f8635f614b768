import { blobKeyId } from '../../shim/base/blob-key.ts';
import { rankByRendezvous } from '../../shim/swarm/rendezvous.ts';
import { boundSeconds, imageBytesOf } from './bound.ts';
import { OriginLimitsChecker } from './checkers/origin-limits.ts';
import type { Scenario } from './scenarios.ts';
import { makeBlob } from './sim-blob.ts';
import { peerIndex, peerName } from './sim-node.ts';
import type { Fault, WorldOptions } from './world-options.ts';

const MB = 1e6;
const ORIGIN_LIMITS = { bytesPerSecond: 25 * MB, requestsPerSecond: 10 };
/** Parts of the ideal time at which a node dies on which others depend. */
const DEATHS = [0.2, 0.4, 0.6, 0.8];

/** All nodes together read less than the origin could give, while those that see to it die. */
export function budgetScenario(burst: Scenario['options']): Scenario {
  return {
    name: 'budget',
    title:
      'all nodes together may read 25 MB/s in 10 requests/s; two keepers and two directories die (survivors)',
    size: { nodes: 200, imageBytes: 1000 * MB },
    options: (size, seed) => {
      const options = { ...burst(size, seed), originLimits: ORIGIN_LIMITS };
      return { ...options, faults: deathsOf(options) };
    },
    bound: (options) => Math.max(boundSeconds(options), idealSeconds(options)),
    counts: (node) => node.isAlive,
    extras: ({ observers }) => {
      const checker = observers.find((observer) => observer instanceof OriginLimitsChecker);
      return [
        { name: 'bytesOverLimit', value: checker?.bytesShare ?? Number.NaN, goal: 1.1 },
        { name: 'requestsOverLimit', value: checker?.requestsShare ?? Number.NaN, goal: 1.1 },
      ];
    },
    goals: { p95OverBound: 1.15, originOverImage: 1.03 },
  };
}

function idealSeconds(options: WorldOptions): number {
  return imageBytesOf(options) / ORIGIN_LIMITS.bytesPerSecond;
}

/** The best two candidates for keeper and the best two directories, in turns. */
function deathsOf(options: WorldOptions): Fault[] {
  const peers = Array.from({ length: options.nodes }, (_, index) => peerName(index));
  const { key } = makeBlob(0, 1);
  const [keepers, directories] = [key.host, blobKeyId(key)].map((name) => rankByRendezvous(name, peers, 2));
  const doomed = [0, 1].flatMap((rank) => [keepers?.[rank], directories?.[rank]]);
  return [...new Set(doomed)].map((peer, turn) => ({
    kind: 'crash',
    atMs: (DEATHS[turn] ?? 1) * idealSeconds(options) * 1000,
    node: peerIndex(peer ?? ''),
  }));
}
