import type { Member } from '../../shim/swarm/swarm-node.ts';
import type { SimNetwork } from './sim-network.ts';
import type { SimNode } from './sim-node.ts';
import type { SimOrigin } from './sim-origin.ts';
import type { WorldHost } from './world-host.ts';
import type { Fault } from './world-options.ts';

type FaultOf<K extends Fault['kind']> = Extract<Fault, { kind: K }>;

/** A lost packet is sent again after about this, ms. */
const RETRANSMIT_MS = 200;

export interface FaultWorld extends WorldHost {
  readonly network: SimNetwork;
  readonly origin: SimOrigin;
  members(): readonly Member[];
  setMembers(node: SimNode, members: readonly Member[]): void;
  crash(node: SimNode): void;
  restart(node: SimNode): void;
  excuse(node: SimNode): void;
}

/** Carries out faults and their ends. */
export class WorldFaults {
  readonly #world: FaultWorld;
  #partition: FaultOf<'partition'> | undefined;
  #loss: FaultOf<'loss'> | undefined;
  #views: FaultOf<'views'> | undefined;

  constructor(world: FaultWorld) {
    this.#world = world;
  }

  apply(fault: Fault): void {
    const node = 'node' in fault ? this.#world.nodes[fault.node] : undefined;
    if (node === undefined) this.#applyToAll(fault);
    else this.#applyToNode(fault, node);
  }

  isCut(left: number, right: number): boolean {
    const cut = this.#partition;
    return cut !== undefined && this.#world.nowMs < cut.untilMs && left < cut.node !== right < cut.node;
  }

  arrivalMs(connection: { notBeforeMs: number }, latencyMs: number): number {
    const { nowMs, prng } = this.#world;
    let arrivalMs = nowMs + latencyMs;
    if (this.#loss !== undefined && nowMs < this.#loss.untilMs && prng.chance(this.#loss.percent, 100))
      arrivalMs += RETRANSMIT_MS;
    connection.notBeforeMs = Math.max(connection.notBeforeMs, arrivalMs);
    return connection.notBeforeMs;
  }

  #applyToAll(fault: Fault): void {
    if (fault.kind === 'loss') this.#loss = fault;
    else if (fault.kind === 'originDown') this.#world.origin.refuse(fault);
    else if (fault.kind === 'views') this.#hideMembers(fault);
    else if (fault.kind === 'heal') this.#heal();
  }

  #applyToNode(fault: Fault, node: SimNode): void {
    switch (fault.kind) {
      case 'crash':
        this.#world.crash(node);
        return;
      case 'restart':
        this.#world.restart(node);
        return;
      case 'freeze':
        node.frozenUntilMs = fault.untilMs;
        return;
      case 'lie':
        node.isLiar = true;
        node.publishesLies = fault.publishes ?? false;
        this.#world.excuse(node);
        return;
      case 'busy':
        node.isBusy = true;
        return;
      case 'slowLink':
        this.#world.network.setRates(node, this.#isOver(fault) ? 1 : fault.share);
        this.#endLater(fault);
        return;
      case 'slowDisk':
        node.machine.setDiskRate(this.#isOver(fault) ? undefined : fault.bytesPerSecond);
        this.#endLater(fault);
        return;
      case 'partition':
        this.#cut(fault);
        return;
      case 'clockSkew':
        node.clock.skew(fault, this.#world.nowMs);
        this.#world.drain(node);
        return;
      default:
    }
  }

  /** The same fault once more, at its end. */
  #endLater(fault: FaultOf<'slowLink' | 'slowDisk' | 'views'>): void {
    if (!this.#isOver(fault)) this.#world.push(fault.untilMs, { kind: 'fault', fault });
  }

  #isOver(fault: { readonly untilMs: number }): boolean {
    return this.#world.nowMs >= fault.untilMs;
  }

  #cut(fault: FaultOf<'partition'>): void {
    this.#partition = fault;
    const { nodes, nowMs } = this.#world;
    for (const node of nodes) {
      for (const peer of node.connections.keys()) {
        if (!this.isCut(node.index, peer)) continue;
        this.#world.network.cut(node, nodes[peer] as SimNode);
        this.#world.push(nowMs + 1, { kind: 'closed', node: node.index, peer, reason: 'cut' });
      }
    }
  }

  #hideMembers(fault: FaultOf<'views'>): void {
    const isOver = this.#isOver(fault);
    if (isOver && this.#views !== fault) return;
    this.#views = fault;
    const { prng, nodes } = this.#world;
    for (const node of nodes) {
      const members = this.#world.members();
      this.#world.setMembers(node, isOver ? members : members.filter(() => prng.chance(fault.percent, 100)));
    }
    this.#endLater(fault);
  }

  #heal(): void {
    const { nodes, network, origin } = this.#world;
    this.#partition = undefined;
    this.#loss = undefined;
    this.#views = undefined;
    origin.heal();
    for (const node of nodes) {
      node.isBusy = false;
      node.frozenUntilMs = 0;
      network.setRates(node, 1);
      node.machine.setDiskRate(undefined);
      if (node.isLiar && node.isAlive) this.#world.crash(node);
      if (!node.isAlive) this.#world.restart(node);
      else this.#world.setMembers(node, this.#world.members());
    }
  }
}
