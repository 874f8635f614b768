import { sameHash } from '../../shim/swarm/hash-runs.ts';
import type { Action } from '../../shim/swarm/messages.ts';
import type { ChunkArrival } from '../../shim/swarm/swarm-node.ts';
import { FairLink } from './fair-link.ts';
import { chunkBytesOf, chunkHashOf, NO_BYTES, wrongBytesOf } from './sim-blob.ts';
import { type ChunkFlow, type Flow, type OriginFlow, peerIndex, peerName, type SimNode } from './sim-node.ts';
import { keep } from './stored-blobs.ts';
import type { WorldHost } from './world-host.ts';
import type { WorldOptions } from './world-options.ts';

/**
 * Chunks on their way. A flow uses the sender's uplink, the receiver's downlink and, between zones, both zones' links, each
 * shared equally among its flows; it has passed when the slowest of them has passed it.
 */
export class SimNetwork {
  readonly #host: WorldHost;
  readonly #options: WorldOptions;
  readonly #zoneLinks = new Map<string, { readonly out: FairLink<Flow>; readonly in: FairLink<Flow> }>();
  onOriginPassed: (flow: OriginFlow) => void = () => undefined;

  constructor(host: WorldHost, options: WorldOptions) {
    this.#host = host;
    this.#options = options;
  }

  serve(node: SimNode, action: Extract<Action, { kind: 'serve' }>): void {
    const to = peerIndex(action.peer);
    const receiver = this.#host.nodes[to] as SimNode;
    const connection = node.connections.get(to);
    const blob = this.#host.blobOf(action.key);
    const stored = node.stored.get(blob);
    if (connection === undefined || stored === undefined) return;
    const { nowMs, observers } = this.#host;
    const { requestId, chunk } = action;
    if (stored.isDistrusted && stored.bytes[chunk] === NO_BYTES) {
      // Asked for just before everything was forgotten.
      node.core.handleServed(action.peer, requestId, this.#host.localMs(node));
      return;
    }
    const sizeBytes = chunkBytesOf(blob, chunk);
    const bytes = node.isLiar ? wrongBytesOf(node.index) : (stored.bytes[chunk] as number);
    for (const observer of observers) observer.onServe?.({ from: node, to: receiver, blob, chunk, bytes });
    const flow: ChunkFlow = {
      kind: 'peer',
      from: node.index,
      to,
      connection,
      requestId,
      blob,
      chunk,
      sizeBytes,
      sentMs: nowMs,
      bytes,
      links: this.#linksOf(node, receiver),
      linksLeft: 0,
      life: receiver.life,
    };
    const readyMs = node.machine.load(sizeBytes, { touchedAt: stored.touchedAt, chunk }, nowMs);
    if (readyMs > nowMs) this.#host.push(readyMs, { kind: 'flowStart', flow });
    else this.handleStart(flow);
  }

  handleStart(flow: Flow): void {
    if (flow.kind === 'peer') {
      if (this.#host.nodes[flow.from]?.connections.get(flow.to) !== flow.connection) return;
      this.#host.push(this.#host.nowMs + this.#options.latencyMs, { kind: 'chunkBegun', flow });
    }
    this.begin(flow);
  }

  begin(flow: Flow): void {
    const { nowMs } = this.#host;
    flow.linksLeft = flow.links.length;
    for (const link of flow.links) {
      link.add(flow, flow.sizeBytes, nowMs);
      this.#plan(link);
    }
  }

  handleLinkEnd(link: FairLink<Flow>): void {
    const { nowMs } = this.#host;
    // An earlier plan of this link replaced this one.
    if (nowMs < link.plannedMs) return;
    link.plannedMs = Number.POSITIVE_INFINITY;
    for (let flow = link.takeEnded(nowMs); flow !== undefined; flow = link.takeEnded(nowMs)) {
      if (--flow.linksLeft === 0) this.#handlePassed(flow);
    }
    this.#plan(link);
  }

  setRates(node: SimNode, share: number): void {
    const { nowMs } = this.#host;
    node.up.setRate((this.#options.upOf?.get(node.index) ?? this.#options.upBytesPerSecond) * share, nowMs);
    node.down.setRate(this.#options.downBytesPerSecond * share, nowMs);
    for (const link of [node.up, node.down]) this.#plan(link);
  }

  /** The connection between the two is gone, and with it what was on its way. */
  cut(left: SimNode, right: SimNode): void {
    for (const [from, to] of [
      [left, right],
      [right, left],
    ] as const) {
      for (const flow of [...from.up.flows]) if (flow.to === to.index) this.#remove(flow);
    }
  }

  /** The node is gone, and with it what was on its way to and from it. */
  dropAll(node: SimNode): void {
    for (const flow of [...node.up.flows, ...node.down.flows]) this.#remove(flow);
  }

  handleBegun(flow: ChunkFlow): void {
    const node = this.#receiverOf(flow);
    if (node === undefined || this.#host.isFrozen(node)) return;
    node.core.handleChunkBegun(peerName(flow.from), flow.requestId, this.#host.localMs(node));
  }

  handleArrived(flow: Flow): void {
    const node = this.#receiverOf(flow);
    if (node === undefined) return;
    if (this.#host.isFrozen(node)) this.#host.push(node.frozenUntilMs, { kind: 'chunkArrived', flow });
    else this.store(node, flow);
  }

  /** Checks, writes, and then tells the core. */
  store(node: SimNode, flow: Flow): void {
    const storedMs = node.machine.store(flow.sizeBytes, this.#host.nowMs);
    if (storedMs > this.#host.nowMs) this.#host.push(storedMs, { kind: 'chunkStored', flow });
    else this.#host.handleStored(flow);
  }

  handleStored(flow: ChunkFlow): void {
    const node = this.#receiverOf(flow);
    if (node === undefined) return;
    const { counts } = this.#host;
    const { blob, chunk, requestId, sizeBytes, bytes } = flow;
    const peer = peerName(flow.from);
    const nowMs = this.#host.localMs(node);
    this.#host.trace(3, flow.to, chunk);
    const isExpected = node.core.expectedRequest(peer, requestId) !== undefined;
    if (isExpected) counts.peerBytes += sizeBytes;
    else counts.wastedBytes += sizeBytes;
    if (node.zone !== this.#host.nodes[flow.from]?.zone) counts.crossZoneBytes += sizeBytes;
    const expected = node.core.expectedHash(blob.key, chunk);
    const isRight =
      bytes !== NO_BYTES && expected !== undefined && sameHash(expected, chunkHashOf(blob, chunk, bytes));
    const outcome: ChunkArrival['outcome'] = isRight
      ? 'stored'
      : expected === undefined
        ? 'failed'
        : 'wrongHash';
    if (isRight) keep(this.#host, node, { blob, chunk, bytes });
    const elapsedMs = this.#host.nowMs - flow.sentMs;
    node.core.handleChunk({ key: blob.key, chunk, requestId, peer, outcome, elapsedMs }, nowMs);
    this.#host.drain(node);
  }

  #handlePassed(flow: Flow): void {
    if (flow.kind === 'origin') {
      this.onOriginPassed(flow);
      return;
    }
    const sender = this.#host.nodes[flow.from] as SimNode;
    this.#host.push(this.#host.arrivalMs(flow.connection), { kind: 'chunkArrived', flow });
    if (!sender.isAlive) return;
    sender.core.handleServed(peerName(flow.to), flow.requestId, this.#host.localMs(sender));
    this.#host.drain(sender);
  }

  /** Undefined when the connection is gone, and with it what was on its way. */
  #receiverOf(flow: Flow): SimNode | undefined {
    const node = this.#host.nodes[flow.to] as SimNode;
    if (!node.isAlive || node.life !== flow.life) return undefined;
    if (flow.kind === 'origin') return node;
    return node.connections.get(flow.from)?.number === flow.connection.number ? node : undefined;
  }

  #linksOf(from: SimNode, to: SimNode): FairLink<Flow>[] {
    if (this.#options.zones === undefined || from.zone === to.zone) return [from.up, to.down];
    return [from.up, this.#zoneLink(from.zone).out, this.#zoneLink(to.zone).in, to.down];
  }

  #zoneLink(zone: string): { readonly out: FairLink<Flow>; readonly in: FairLink<Flow> } {
    const rate = this.#options.zones?.linkBytesPerSecond ?? 0;
    const links = this.#zoneLinks.get(zone) ?? {
      out: new FairLink<Flow>(rate),
      in: new FairLink<Flow>(rate),
    };
    this.#zoneLinks.set(zone, links);
    return links;
  }

  #remove(flow: Flow): void {
    for (const link of flow.links) {
      link.remove(flow, this.#host.nowMs);
      this.#plan(link);
    }
  }

  #plan(link: FairLink<Flow>): void {
    const endMs = link.nextEndMs();
    if (endMs >= link.plannedMs) return;
    link.plannedMs = endMs;
    this.#host.push(endMs, { kind: 'linkEnd', link });
  }
}
