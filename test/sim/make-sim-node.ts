import { SwarmNode } from '../../shim/swarm/swarm-node.ts';
import { FairLink } from './fair-link.ts';
import { SimClock } from './sim-clock.ts';
import { SimMachine } from './sim-machine.ts';
import { peerName, type SimNode } from './sim-node.ts';
import type { WorldOptions } from './world-options.ts';

/** A node that is alive and has not begun. */
export function makeSimNode(options: WorldOptions, index: number, startMs: number): SimNode {
  return {
    index,
    zone: zoneOf(options, index),
    core: makeCore(options, index),
    life: 0,
    clock: new SimClock(0),
    up: new FairLink(options.upOf?.get(index) ?? options.upBytesPerSecond),
    down: new FairLink(options.downBytesPerSecond),
    machine: new SimMachine(options.machine),
    stored: new Map(),
    openBlobs: new Set(),
    connections: new Map(),
    wakeAtMs: Number.POSITIVE_INFINITY,
    isStarted: false,
    isAlive: true,
    isLiar: false,
    publishesLies: false,
    isBusy: false,
    frozenUntilMs: 0,
    startMs,
    doneMs: undefined,
  };
}

/** The agent's own core, as it is after each start of the node. */
export function makeCore(options: WorldOptions, index: number): SwarmNode {
  const { seed, limits, mayNotReadOrigin, originLimits } = options;
  return new SwarmNode({
    self: peerName(index),
    zone: zoneOf(options, index),
    seed: Math.imul(seed + 1, 0x9e3779b1) ^ index,
    mayReadOrigin: !mayNotReadOrigin?.includes(index),
    ...(limits === undefined ? {} : { limits }),
    ...(originLimits === undefined ? {} : { originLimits }),
  });
}

function zoneOf({ zones }: WorldOptions, index: number): string {
  return zones === undefined ? 'z' : `z${index % zones.count}`;
}
