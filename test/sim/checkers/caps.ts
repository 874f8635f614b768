import { CHUNK_SIZE_BYTES, type SwarmLimits, swarmLimits } from '../../../shim/swarm/limits.ts';
import { type Observer, Violation } from '../observer.ts';
import type { SimNode } from '../sim-node.ts';
import type { WorldOptions } from '../world-options.ts';

/** Chunks in memory: those being received and those being sent. An agent of 1 GB has room for many times this. */
const CHUNK_MEMORY_MAX_BYTES = 512 * 1024 * 1024;
/** Nodes looked at in one sample: all of a small swarm, some of a large one. */
const NODES_PER_SAMPLE = 50;

/** No limit of `limits.ts` is exceeded by any node at any time it is looked at, and so memory stays bounded. */
export class CapsChecker implements Observer {
  readonly #limits: SwarmLimits;
  #next = 0;

  constructor({ limits }: WorldOptions) {
    this.#limits = swarmLimits(limits);
  }

  onSample(nodes: readonly SimNode[]): void {
    const count = Math.min(nodes.length, NODES_PER_SAMPLE);
    for (let turn = 0; turn < count; turn++) this.#check(nodes[this.#next++ % nodes.length] as SimNode);
  }

  #check(node: SimNode): void {
    const limits = this.#limits;
    const snapshot = node.core.snapshot();
    const requestsMax =
      Math.ceil(limits.requestsMax * (1 + limits.hedgeBudgetPercent / 100)) + limits.endgameChunks;
    const leasesMax = limits.leasesPerNode * 2;
    let leases = 0;
    expectAtMost(
      node,
      'uploads',
      snapshot.uploadsInFlight,
      limits.uploadSlots + limits.uploadSlotsForImports + limits.uploadSlotsForSlow,
    );
    expectAtMost(node, 'requests', snapshot.requestsInFlight, requestsMax);
    expectAtMost(node, 'blobs of a directory', snapshot.directoryKeys, limits.directoryKeysMax);
    for (const blob of snapshot.blobs) {
      expectAtMost(node, 'neighbours', blob.neighbours, limits.neighboursMax);
      expectAtMost(node, 'followers', blob.followers, limits.followersMax);
      leases += blob.leases;
    }
    expectAtMost(node, 'origin runs', leases, leasesMax + limits.leasesPerNode);
    const inMemory = snapshot.uploadsInFlight + snapshot.requestsInFlight + leases;
    expectAtMost(node, 'bytes of chunks in memory', inMemory * CHUNK_SIZE_BYTES, CHUNK_MEMORY_MAX_BYTES);
  }
}

function expectAtMost(node: SimNode, what: string, count: number, most: number): void {
  if (count > most) throw new Violation(`node ${node.index} has ${count} ${what}, ${most} is the most`);
}
