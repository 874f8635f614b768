import { type BlobKey, blobKeyId } from '../../shim/base/blob-key.ts';
import type { Action } from '../../shim/swarm/messages.ts';
import { Prng } from '../../shim/swarm/prng.ts';
import type { Member } from '../../shim/swarm/swarm-node.ts';
import { EventHeap } from './event-heap.ts';
import { makeCore, makeSimNode } from './make-sim-node.ts';
import type { Observer } from './observer.ts';
import { makeBlob, type SimBlob } from './sim-blob.ts';
import { type ConnectedWorld, SimConnections } from './sim-connections.ts';
import { SimNetwork } from './sim-network.ts';
import { type Flow, peerIndex, peerName, type SimEvent, type SimNode } from './sim-node.ts';
import { SimOrigin } from './sim-origin.ts';
import { SimPulls } from './sim-pulls.ts';
import { SimRights } from './sim-rights.ts';
import { type FaultWorld, WorldFaults } from './world-faults.ts';
import type { WorldCounts } from './world-host.ts';
import type { WorldOptions } from './world-options.ts';

/** How often observers get to see the nodes, ms of model time. */
const SAMPLE_MS = 100;

/** Hosts real `SwarmNode`s over a modelled network. Deterministic: same options, same trace hash. */
export class World implements ConnectedWorld, FaultWorld {
  readonly options: WorldOptions;
  readonly observers: readonly Observer[];
  readonly nodes: SimNode[] = [];
  readonly counts: WorldCounts = {
    originBytes: 0,
    originRequests: 0,
    originRefusals: 0,
    peerBytes: 0,
    crossZoneBytes: 0,
    wastedBytes: 0,
    idleBytes: 0,
    messages: 0,
    events: 0,
    busy: 0,
  };
  readonly notes = new Map<string, number>();
  readonly blobs: readonly SimBlob[];
  readonly prng: Prng;
  readonly network: SimNetwork;
  readonly connections: SimConnections;
  readonly origin: SimOrigin;
  readonly rights: SimRights;
  nowMs = 0;
  traceHash = 0x811c9dc5;
  readonly #heap = new EventHeap<SimEvent>();
  readonly #pulls: SimPulls;
  readonly #faults: WorldFaults;
  readonly #blobByKey = new Map<string, SimBlob>();
  readonly #blobByObject = new Map<BlobKey, SimBlob>();
  #members: readonly Member[] | undefined;
  /** Faults to come that give nodes something to do. */
  #revivalsAhead = 0;
  #isBegun = false;
  #sampleAtMs = 0;

  constructor(options: WorldOptions, observers: readonly Observer[] = []) {
    this.options = options;
    this.observers = observers;
    this.rights = new SimRights(options);
    this.network = new SimNetwork(this, options);
    this.connections = new SimConnections(this);
    this.origin = new SimOrigin(this, this.network, options);
    this.network.onOriginPassed = (flow) => this.origin.handlePassed(flow);
    this.blobs = options.blobSizesBytes.map((sizeBytes, index) => makeBlob(index, sizeBytes));
    for (const blob of this.blobs) {
      this.#blobByKey.set(blobKeyId(blob.key), blob);
      this.#blobByObject.set(blob.key, blob);
    }
    this.#pulls = new SimPulls(this, options, this.blobs);
    this.#faults = new WorldFaults(this);
    this.prng = new Prng(options.seed);
    for (let index = 0; index < options.nodes; index++) this.#addNode(index);
    for (const fault of options.faults ?? []) {
      this.push(fault.atMs, { kind: 'fault', fault });
      if (fault.kind === 'restart' || fault.kind === 'heal') this.#revivalsAhead++;
    }
  }

  /** Runs until every pulling node that is alive is done, or until `untilMs`. Whether all are done. */
  run(untilMs: number): boolean {
    if (!this.#isBegun) for (const node of this.nodes) this.setMembers(node, this.members());
    this.#isBegun = true;
    const isDone = this.#runEvents(untilMs);
    for (const observer of this.observers) observer.onEnd?.(this.nodes, isDone, this.nowMs);
    return isDone;
  }

  push(atMs: number, event: SimEvent): void {
    this.#heap.push(atMs, event);
  }

  localMs(node: SimNode): number {
    return node.clock.localMs(this.nowMs);
  }

  blobOf(key: BlobKey): SimBlob {
    const blob = this.#blobByObject.get(key) ?? this.#blobByKey.get(blobKeyId(key));
    if (blob === undefined) throw new Error(`nobody made ${key.digest}`);
    return blob;
  }

  /** Seconds from its own start that each finished node took. */
  secondsTaken(nodes: readonly SimNode[] = this.nodes): number[] {
    return nodes
      .filter((node) => node.doneMs !== undefined)
      .map((node) => ((node.doneMs as number) - node.startMs) / 1000);
  }

  members(): readonly Member[] {
    this.#members ??= this.nodes.map(({ index, zone }) => ({ peer: peerName(index), zone }));
    return this.#members;
  }

  setMembers(node: SimNode, members: readonly Member[]): void {
    if (!node.isAlive) return;
    node.core.handleMembers(members, this.localMs(node));
    this.drain(node);
  }

  isFrozen(node: SimNode): boolean {
    return this.nowMs < node.frozenUntilMs;
  }

  isCut(left: number, right: number): boolean {
    return this.#faults.isCut(left, right);
  }

  arrivalMs(connection: { notBeforeMs: number }): number {
    return this.#faults.arrivalMs(connection, this.options.latencyMs);
  }

  excuse(node: SimNode): void {
    this.#pulls.excuse(node);
  }

  crash(node: SimNode): void {
    this.#pulls.excuse(node);
    node.isAlive = false;
    this.network.dropAll(node);
    for (const peer of node.connections.keys()) {
      const closed = { kind: 'closed', node: peer, peer: node.index, reason: 'reset' } as const;
      this.push(this.nowMs + this.options.latencyMs, closed);
    }
  }

  restart(node: SimNode): void {
    node.core = makeCore(this.options, node.index);
    node.life++;
    this.rights.forget(node);
    node.isAlive = true;
    node.isLiar = false;
    node.publishesLies = false;
    node.connections.clear();
    node.openBlobs.clear();
    node.stored.clear();
    node.machine.restart(this.nowMs);
    node.wakeAtMs = Number.POSITIVE_INFINITY;
    node.startMs = this.nowMs;
    node.doneMs = undefined;
    this.#pulls.expect(node);
    this.setMembers(node, this.members());
    this.#start(node);
  }

  drain(node: SimNode): void {
    for (let action = node.core.pollAction(); action !== undefined; action = node.core.pollAction())
      this.#act(node, action);
    const wakeMs = node.core.nextWakeupMs();
    if (wakeMs !== undefined) this.#schedule(node, Math.max(this.nowMs, node.clock.worldMs(wakeMs)));
  }

  /** A received chunk is on disk. */
  handleStored(flow: Flow): void {
    if (flow.kind === 'origin') this.origin.handleStored(flow);
    else this.network.handleStored(flow);
    const node = this.nodes[flow.to] as SimNode;
    const stored = node.stored.get(flow.blob);
    if (stored !== undefined) this.#pulls.advance(node, stored);
  }

  trace(kind: number, node: number, detail: number): void {
    let hash = Math.imul(this.traceHash ^ kind, 0x01000193);
    hash = Math.imul(hash ^ node, 0x01000193);
    hash = Math.imul(hash ^ detail, 0x01000193);
    this.traceHash = Math.imul(hash ^ Math.round(this.nowMs * 1000), 0x01000193) >>> 0;
  }

  #runEvents(untilMs: number): boolean {
    while (this.#pulls.pendingCount > 0 || this.#revivalsAhead > 0) {
      const atMs = this.#heap.nextMs;
      if (atMs === undefined || atMs > untilMs) return false;
      if (atMs >= this.#sampleAtMs) this.#sample(atMs);
      this.nowMs = atMs;
      this.counts.events++;
      this.#handle(this.#heap.pop() as SimEvent);
    }
    return true;
  }

  #sample(atMs: number): void {
    for (const observer of this.observers) observer.onSample?.(this.nodes, this.nowMs);
    this.#sampleAtMs = atMs + SAMPLE_MS;
  }

  #addNode(index: number): void {
    const { options } = this;
    const drawnMs = this.prng.below(Math.max(1, Math.round(options.startSpreadMs * 1000))) / 1000;
    const startMs = options.startMs?.get(index) ?? drawnMs;
    const node = makeSimNode(options, index, startMs);
    this.nodes.push(node);
    this.#pulls.expect(node);
    this.push(startMs, { kind: 'start', node: index });
  }

  #handle(event: SimEvent): void {
    switch (event.kind) {
      case 'message':
        this.connections.handleMessage(event);
        return;
      case 'wake':
        this.#wake(event.node, event.atMs);
        return;
      case 'linkEnd':
        this.network.handleLinkEnd(event.link);
        return;
      case 'chunkBegun':
        this.network.handleBegun(event.flow);
        return;
      case 'chunkArrived':
        this.network.handleArrived(event.flow);
        return;
      case 'chunkStored':
        this.handleStored(event.flow);
        return;
      case 'flowStart':
        this.network.handleStart(event.flow);
        return;
      case 'unpacked':
        this.#unpacked(event);
        return;
      case 'hashed':
        this.#hashed(event);
        return;
      case 'proof':
        this.connections.handleProof(event);
        return;
      case 'start':
        this.#start(this.nodes[event.node] as SimNode);
        return;
      case 'dialled':
        this.connections.handleDialled(event);
        return;
      case 'closed':
        this.connections.close(this.nodes[event.node] as SimNode, event.peer, event.reason);
        return;
      case 'originStart':
        this.origin.handleStart(event.read);
        return;
      case 'originFailed':
        this.origin.handleFailed(event.read, event.failure);
        return;
      case 'fault':
        if (event.fault.kind === 'restart' || event.fault.kind === 'heal') this.#revivalsAhead--;
        this.#faults.apply(event.fault);
        return;
      default:
        event satisfies never;
    }
  }

  #start(node: SimNode): void {
    if (!node.isAlive || (node.isStarted && node.life === 0)) return;
    this.trace(1, node.index, 0);
    this.#pulls.start(node);
    this.drain(node);
  }

  #wake(index: number, atMs: number): void {
    const node = this.nodes[index] as SimNode;
    if (!node.isAlive || atMs !== node.wakeAtMs) return;
    node.wakeAtMs = Number.POSITIVE_INFINITY;
    if (this.isFrozen(node)) {
      this.#schedule(node, node.frozenUntilMs);
      return;
    }
    node.core.handleTimeout(this.localMs(node));
    this.drain(node);
  }

  #unpacked(event: Extract<SimEvent, { kind: 'unpacked' }>): void {
    const node = this.nodes[event.node] as SimNode;
    if (!node.isAlive || node.life !== event.life) return;
    this.#pulls.handleUnpacked(node, event.blob);
    this.drain(node);
  }

  #hashed(event: Extract<SimEvent, { kind: 'hashed' }>): void {
    const node = this.nodes[event.node] as SimNode;
    if (node.isAlive && node.life === event.life) this.#pulls.handleHashed(node, event.blob);
  }

  #schedule(node: SimNode, atMs: number): void {
    if (atMs >= node.wakeAtMs) return;
    node.wakeAtMs = atMs;
    this.push(atMs, { kind: 'wake', node: node.index, atMs });
  }

  #act(node: SimNode, action: Action): void {
    switch (action.kind) {
      case 'send':
        this.connections.send(node, peerIndex(action.peer), action.message);
        return;
      case 'serve':
        this.network.serve(node, action);
        return;
      case 'dial':
        this.connections.dial(node, action.peer);
        return;
      case 'hangUp':
        this.connections.hangUp(node, action.peer);
        return;
      case 'readOrigin':
        this.origin.read(node, action.key, action.run);
        return;
      case 'cancelOrigin':
        this.origin.cancel(node, action.key, action.run);
        return;
      case 'cancelServe':
        return;
      case 'complete':
        this.#pulls.handleComplete(node, action.key);
        return;
      case 'note':
        this.notes.set(action.event, (this.notes.get(action.event) ?? 0) + 1);
        return;
      default:
        action satisfies never;
    }
  }
}
