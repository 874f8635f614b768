import { encodeMessage } from '../../shim/peer/message-codec.ts';
import type { PeerMessage } from '../../shim/swarm/messages.ts';
import type { SimNetwork } from './sim-network.ts';
import { type Connection, peerIndex, peerName, type SimEvent, type SimNode } from './sim-node.ts';
import type { WorldHost } from './world-host.ts';
import type { WorldOptions } from './world-options.ts';

type EventOf<K extends SimEvent['kind']> = Extract<SimEvent, { kind: K }>;

export interface ConnectedWorld extends WorldHost {
  readonly network: SimNetwork;
  readonly options: WorldOptions;
  /** Nothing passes between these two. */
  isCut(left: number, right: number): boolean;
}

/** Connections between nodes and the messages on them; chunks are `SimNetwork`'s. */
export class SimConnections {
  readonly #world: ConnectedWorld;
  readonly #idle: ReadonlySet<number>;
  #connectionCount = 0;

  constructor(world: ConnectedWorld) {
    this.#world = world;
    this.#idle = new Set(world.options.idle);
  }

  dial(node: SimNode, peer: string): void {
    const { nowMs, options } = this.#world;
    const atMs = nowMs + 2 * options.latencyMs;
    this.#world.push(atMs, { kind: 'dialled', from: node.index, to: peerIndex(peer) });
  }

  handleDialled({ from, to }: EventOf<'dialled'>): void {
    const world = this.#world;
    const dialler = world.nodes[from] as SimNode;
    const other = world.nodes[to] as SimNode;
    if (!dialler.isAlive) return;
    if (!other.isAlive || world.isCut(from, to) || world.isFrozen(other)) {
      this.close(dialler, to, 'cannot dial');
      return;
    }
    if (!dialler.connections.has(to)) {
      const number = ++this.#connectionCount;
      dialler.connections.set(to, { number, notBeforeMs: 0 });
      other.connections.set(from, { number, notBeforeMs: 0 });
      other.core.handleConnected(peerName(from), { zone: dialler.zone }, world.localMs(other));
      world.drain(other);
    }
    dialler.core.handleConnected(peerName(to), { zone: other.zone }, world.localMs(dialler));
    world.drain(dialler);
  }

  hangUp(node: SimNode, peer: string): void {
    const [from, to] = [node.index, peerIndex(peer)];
    this.#hangUpAt(from, to);
    this.#hangUpAt(to, from);
  }

  close(node: SimNode, peer: number, reason: string): void {
    const world = this.#world;
    node.connections.delete(peer);
    world.rights.handleDisconnected(node, peer);
    world.network.cut(node, world.nodes[peer] as SimNode);
    if (!node.isAlive) return;
    node.core.handleDisconnected(peerName(peer), reason, world.localMs(node));
    world.drain(node);
  }

  send(node: SimNode, to: number, message: PeerMessage): void {
    const world = this.#world;
    const link: Connection | undefined = node.connections.get(to);
    if (link === undefined || world.isCut(node.index, to)) return;
    if (this.#idle.size > 0 && (this.#idle.has(to) || this.#idle.has(node.index)))
      world.counts.idleBytes += encodeMessage(message).length;
    const proof = world.rights.proofFor(node, to, message, world.localMs(node));
    if (proof !== undefined)
      world.push(world.arrivalMs(link), { kind: 'proof', from: node.index, to, link, proof });
    world.push(world.arrivalMs(link), { kind: 'message', from: node.index, to, link, message });
  }

  handleMessage(event: EventOf<'message'>): void {
    const world = this.#world;
    const node = world.nodes[event.to] as SimNode;
    if (!node.isAlive || node.connections.get(event.from)?.number !== event.link.number) return;
    if (world.isFrozen(node)) {
      world.push(node.frozenUntilMs, event);
      return;
    }
    const { message } = event;
    world.counts.messages++;
    world.trace(2, event.to, event.from);
    if (node.isBusy && message.kind === 'request') {
      this.send(node, event.from, { kind: 'busy', requestId: message.requestId, retryAfterMs: 50 });
      return;
    }
    const refusal = world.rights.refusal(node, event.from, message, world.localMs(node));
    if (refusal !== undefined) {
      this.send(node, event.from, refusal);
      return;
    }
    if (message.kind === 'busy') world.counts.busy++;
    node.core.handleMessage(peerName(event.from), message, world.localMs(node));
    world.drain(node);
  }

  handleProof({ from, to, link, proof }: EventOf<'proof'>): void {
    const node = this.#world.nodes[to] as SimNode;
    if (!node.isAlive || node.connections.get(from)?.number !== link.number) return;
    this.#world.rights.handleProof(node, proof, this.#world.localMs(node));
  }

  #hangUpAt(node: number, peer: number): void {
    const { nodes, nowMs } = this.#world;
    if (nodes[node]?.connections.has(peer))
      this.#world.push(nowMs, { kind: 'closed', node, peer, reason: 'hung up' });
  }
}
