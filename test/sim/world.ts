import { type BlobKey, blobKeyId } from '../../shim/base/blob-key.ts';
import type { Action, PeerMessage } from '../../shim/swarm/messages.ts';
import { Prng } from '../../shim/swarm/prng.ts';
import { SwarmNode } from '../../shim/swarm/swarm-node.ts';
import { EventHeap } from './event-heap.ts';
import { FairLink } from './fair-link.ts';
import { makeBlob, type SimBlob } from './sim-blob.ts';
import { peerIndex, peerName, type SimEvent, type SimNode } from './sim-node.ts';
import { SimOrigin } from './sim-origin.ts';
import { SimUplinks } from './sim-uplinks.ts';
import type { WorldHost } from './world-host.ts';
import type { Fault, WorldOptions } from './world-options.ts';

/** Hosts real `SwarmNode`s over a modelled network. Deterministic: same options, same trace hash. */
export class World implements WorldHost {
  readonly options: WorldOptions;
  readonly nodes: SimNode[] = [];
  readonly counts = {
    originBytes: 0,
    originRequests: 0,
    peerBytes: 0,
    wastedBytes: 0,
    messages: 0,
    events: 0,
    busy: 0,
  };
  readonly notes = new Map<string, number>();
  readonly blobs: readonly SimBlob[];
  nowMs = 0;
  traceHash = 0x811c9dc5;
  readonly #heap = new EventHeap<SimEvent>();
  readonly #origin: SimOrigin;
  readonly #uplinks: SimUplinks;
  readonly #blobByKey = new Map<string, SimBlob>();
  #partition: { readonly at: number; readonly untilMs: number } | undefined;
  #linkCount = 0;
  #pending = 0;
  #isBegun = false;

  constructor(options: WorldOptions) {
    this.options = options;
    this.#origin = new SimOrigin(this, options);
    this.#uplinks = new SimUplinks(this, options);
    this.blobs = options.blobSizesBytes.map((sizeBytes, index) => makeBlob(index, sizeBytes));
    for (const blob of this.blobs) this.#blobByKey.set(blobKeyId(blob.key), blob);
    const prng = new Prng(options.seed);
    for (let index = 0; index < options.nodes; index++) this.#addNode(index, prng);
    for (const fault of options.faults ?? []) this.push(fault.atMs, { kind: 'fault', fault });
  }

  /** Runs until every pulling node that is alive is done, or until `untilMs`. Whether all are done. */
  run(untilMs: number): boolean {
    for (const node of this.#isBegun ? [] : this.nodes) {
      node.core.handleMembers(this.#members(), this.nowMs);
      this.drain(node);
    }
    this.#isBegun = true;
    while (this.#pending > 0) {
      if ((this.#heap.nextMs ?? Number.POSITIVE_INFINITY) > untilMs) return false;
      const next = this.#heap.pop();
      if (next === undefined) return false;
      this.nowMs = next.atMs;
      this.counts.events++;
      this.#handle(next.event);
    }
    return true;
  }

  push(atMs: number, event: SimEvent): void {
    this.#heap.push(atMs, event);
  }

  blobOf(key: BlobKey): SimBlob {
    const blob = this.#blobByKey.get(blobKeyId(key));
    if (blob === undefined) throw new Error(`nobody made ${key.digest}`);
    return blob;
  }

  /** Seconds from its own start that each finished node took. */
  secondsTaken(): number[] {
    return this.nodes
      .filter((node) => node.doneMs !== undefined)
      .map((node) => ((node.doneMs as number) - node.startMs) / 1000);
  }

  #addNode(index: number, prng: Prng): void {
    const { options } = this;
    const drawnMs = prng.below(Math.max(1, Math.round(options.startSpreadMs * 1000))) / 1000;
    const startMs = options.startMs?.get(index) ?? drawnMs;
    this.nodes.push({
      index,
      core: this.#makeCore(index),
      up: new FairLink(options.upBytesPerSecond),
      downFreeMs: 0,
      wakeAtMs: Number.POSITIVE_INFINITY,
      isAlive: true,
      isLiar: false,
      isBusy: false,
      frozenUntilMs: 0,
      startMs,
      openBlobs: new Set(),
      doneMs: undefined,
      links: new Map(),
    });
    if (this.#isPuller(index)) this.#pending++;
    this.push(startMs, { kind: 'start', node: index });
  }

  #makeCore(index: number): SwarmNode {
    const { seed, limits, mayNotReadOrigin } = this.options;
    return new SwarmNode({
      self: peerName(index),
      zone: 'z',
      seed: Math.imul(seed + 1, 0x9e3779b1) ^ index,
      mayReadOrigin: !mayNotReadOrigin?.includes(index),
      ...(limits === undefined ? {} : { limits }),
    });
  }

  #isPuller(index: number): boolean {
    return !this.options.seeds?.includes(index) && !this.options.idle?.includes(index);
  }

  #handle(event: SimEvent): void {
    switch (event.kind) {
      case 'start':
        this.#start(event.node);
        return;
      case 'wake':
        this.#wake(event.node, event.atMs);
        return;
      case 'message':
        this.#deliver(event);
        return;
      case 'dialled':
        this.#connect(event.from, event.to);
        return;
      case 'closed':
        this.#closed(event.node, event.peer, event.reason);
        return;
      case 'linkEnd':
        this.#uplinks.handleLinkEnd(event.node, event.version);
        return;
      case 'originEnd':
        this.#origin.handleLinkEnd(event.version);
        return;
      case 'chunkBegun':
        this.#uplinks.handleBegun(event.upload);
        return;
      case 'chunk':
        this.#uplinks.handleArrived(event.upload);
        return;
      case 'originStart':
        this.#origin.handleStart(event.read);
        return;
      case 'originChunk':
        this.#origin.handleChunk(event.read);
        return;
      case 'originFailed':
        this.#origin.handleFailed(event.read, event.retryAfterMs);
        return;
      case 'fault':
        this.#fault(event.fault);
        return;
      default:
        event satisfies never;
    }
  }

  #start(index: number): void {
    const node = this.nodes[index] as SimNode;
    if (!node.isAlive) return;
    this.trace(1, index, 0);
    for (const blob of this.blobs) {
      if (this.options.idle?.includes(index)) continue;
      if (this.options.seeds?.includes(index)) node.core.seed(blob, this.nowMs);
      else {
        node.openBlobs.add(blobKeyId(blob.key));
        node.core.join({ ...blob, held: undefined, hashes: [] }, this.nowMs);
      }
    }
    this.drain(node);
  }

  #membersCache: { peer: string; zone: string }[] | undefined;

  #members(): { peer: string; zone: string }[] {
    this.#membersCache ??= this.nodes.map((node) => ({ peer: peerName(node.index), zone: 'z' }));
    return this.#membersCache;
  }

  #wake(index: number, atMs: number): void {
    const node = this.nodes[index] as SimNode;
    if (!node.isAlive || atMs !== node.wakeAtMs) return;
    node.wakeAtMs = Number.POSITIVE_INFINITY;
    if (this.isFrozen(node)) {
      this.#schedule(node, node.frozenUntilMs);
      return;
    }
    node.core.handleTimeout(this.nowMs);
    this.drain(node);
  }

  #deliver(event: Extract<SimEvent, { kind: 'message' }>): void {
    const node = this.nodes[event.to] as SimNode;
    if (!node.isAlive || node.links.get(event.from) !== event.link) return;
    if (this.isFrozen(node)) {
      this.push(node.frozenUntilMs, event);
      return;
    }
    this.counts.messages++;
    this.trace(2, event.to, event.from);
    if (node.isBusy && event.message.kind === 'request') {
      this.#send(node, event.from, { kind: 'busy', requestId: event.message.requestId, retryAfterMs: 50 });
      return;
    }
    if (event.message.kind === 'busy') this.counts.busy++;
    node.core.handleMessage(peerName(event.from), event.message, this.nowMs);
    this.drain(node);
  }

  #connect(from: number, to: number): void {
    const dialler = this.nodes[from] as SimNode;
    const other = this.nodes[to] as SimNode;
    if (!dialler.isAlive) return;
    if (!other.isAlive || this.#isCut(from, to) || this.isFrozen(other)) {
      this.#closed(from, to, 'cannot dial');
      return;
    }
    if (!dialler.links.has(to)) {
      const link = ++this.#linkCount;
      dialler.links.set(to, link);
      other.links.set(from, link);
      other.core.handleConnected(peerName(from), { zone: 'z' }, this.nowMs);
      this.drain(other);
    }
    dialler.core.handleConnected(peerName(to), { zone: 'z' }, this.nowMs);
    this.drain(dialler);
  }

  #closed(index: number, peer: number, reason: string): void {
    const node = this.nodes[index] as SimNode;
    node.links.delete(peer);
    if (!node.isAlive) return;
    node.core.handleDisconnected(peerName(peer), reason, this.nowMs);
    this.drain(node);
  }

  drain(node: SimNode): void {
    for (let action = node.core.pollAction(); action !== undefined; action = node.core.pollAction())
      this.#act(node, action);
    const wakeMs = node.core.nextWakeupMs();
    if (wakeMs !== undefined) this.#schedule(node, Math.max(this.nowMs, wakeMs));
  }

  #schedule(node: SimNode, atMs: number): void {
    if (atMs >= node.wakeAtMs) return;
    node.wakeAtMs = atMs;
    this.push(atMs, { kind: 'wake', node: node.index, atMs });
  }

  #act(node: SimNode, action: Action): void {
    switch (action.kind) {
      case 'dial':
        this.push(this.nowMs + 2 * this.options.latencyMs, {
          kind: 'dialled',
          from: node.index,
          to: peerIndex(action.peer),
        });
        return;
      case 'hangUp':
        this.#hangUp(node.index, peerIndex(action.peer));
        return;
      case 'send':
        this.#send(node, peerIndex(action.peer), action.message);
        return;
      case 'readOrigin':
        this.#origin.read(node, action.key, action.run);
        return;
      case 'cancelOrigin':
        this.#origin.cancel(node, action.key, action.run);
        return;
      case 'serve':
        this.#uplinks.serve(node, action);
        return;
      case 'cancelServe':
        return;
      case 'complete':
        this.#complete(node, action.key);
        return;
      case 'note':
        this.notes.set(action.event, (this.notes.get(action.event) ?? 0) + 1);
        return;
      default:
        action satisfies never;
    }
  }

  #send(node: SimNode, to: number, message: PeerMessage): void {
    const link = node.links.get(to);
    if (link === undefined || this.#isCut(node.index, to)) return;
    this.push(this.nowMs + this.options.latencyMs, {
      kind: 'message',
      from: node.index,
      to,
      link,
      message,
    });
  }

  #hangUp(from: number, to: number): void {
    for (const [index, peer] of [
      [from, to],
      [to, from],
    ] as const) {
      if (this.nodes[index]?.links.has(peer))
        this.push(this.nowMs, { kind: 'closed', node: index, peer, reason: 'hung up' });
    }
  }

  #complete(node: SimNode, key: BlobKey): void {
    if (!node.openBlobs.delete(blobKeyId(key)) || node.openBlobs.size > 0) return;
    node.doneMs = this.nowMs;
    this.#pending--;
    this.trace(5, node.index, 0);
  }

  #fault(fault: Fault): void {
    switch (fault.kind) {
      case 'crash':
        this.#crash(fault.node);
        return;
      case 'restart':
        this.#restart(fault.node);
        return;
      case 'freeze':
        (this.nodes[fault.node] as SimNode).frozenUntilMs = fault.untilMs;
        return;
      case 'lie':
        (this.nodes[fault.node] as SimNode).isLiar = true;
        return;
      case 'busy':
        (this.nodes[fault.node] as SimNode).isBusy = true;
        return;
      case 'partition':
        this.#cut(fault.node, fault.untilMs);
        return;
      case 'originDown':
        this.#origin.refuse(fault);
        return;
      default:
        fault satisfies never;
    }
  }

  #crash(index: number): void {
    const node = this.nodes[index] as SimNode;
    const isWaitedFor = node.isAlive && node.doneMs === undefined && this.#isPuller(index);
    if (isWaitedFor && !this.#comesBack(index)) this.#pending--;
    node.isAlive = false;
    for (const peer of node.links.keys()) {
      this.push(this.nowMs + this.options.latencyMs, {
        kind: 'closed',
        node: peer,
        peer: index,
        reason: 'reset',
      });
    }
  }

  #comesBack(index: number): boolean {
    const faults = this.options.faults ?? [];
    return faults.some(
      ({ kind, atMs, ...fault }) =>
        kind === 'restart' && atMs > this.nowMs && 'node' in fault && fault.node === index,
    );
  }

  #restart(index: number): void {
    const node = this.nodes[index] as SimNode;
    node.core = this.#makeCore(index);
    node.isAlive = true;
    node.links.clear();
    node.openBlobs.clear();
    node.wakeAtMs = Number.POSITIVE_INFINITY;
    node.startMs = this.nowMs;
    node.doneMs = undefined;
    node.core.handleMembers(this.#members(), this.nowMs);
    this.#start(index);
  }

  #cut(at: number, untilMs: number): void {
    this.#partition = { at, untilMs };
    for (const node of this.nodes) {
      for (const peer of node.links.keys()) {
        if (this.#isCut(node.index, peer))
          this.push(this.nowMs + 1, { kind: 'closed', node: node.index, peer, reason: 'cut' });
      }
    }
  }

  #isCut(left: number, right: number): boolean {
    const cut = this.#partition;
    return cut !== undefined && this.nowMs < cut.untilMs && left < cut.at !== right < cut.at;
  }

  isFrozen(node: SimNode): boolean {
    return this.nowMs < node.frozenUntilMs;
  }

  trace(kind: number, node: number, detail: number): void {
    let hash = this.traceHash;
    for (const value of [kind, node, detail, Math.round(this.nowMs * 1000)])
      hash = Math.imul(hash ^ value, 0x01000193) >>> 0;
    this.traceHash = hash;
  }
}
