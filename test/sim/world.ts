import { type BlobKey, blobKeyId } from '../../shim/base/blob-key.ts';
import type { Digest } from '../../shim/base/digest.ts';
import { CHUNK_SIZE_BYTES, chunkCountOf, type SwarmLimits } from '../../shim/swarm/limits.ts';
import type { Action, ChunkHash, ChunkRun, HashRun, PeerMessage } from '../../shim/swarm/messages.ts';
import { Prng } from '../../shim/swarm/prng.ts';
import { SwarmNode } from '../../shim/swarm/swarm-node.ts';
import { EventHeap } from './event-heap.ts';
import { FairLink } from './fair-link.ts';

/** What goes wrong, as data. `node` is an index. */
export type Fault =
  | { readonly kind: 'crash'; readonly atMs: number; readonly node: number }
  /** Comes back after a crash and remembers nothing; it pulls at once. Not for nodes that were done. */
  | { readonly kind: 'restart'; readonly atMs: number; readonly node: number }
  /** Takes what it is sent and says nothing, connections stay open. */
  | { readonly kind: 'freeze'; readonly atMs: number; readonly untilMs: number; readonly node: number }
  /** Serves wrong bytes. */
  | { readonly kind: 'lie'; readonly atMs: number; readonly node: number }
  /** Says busy to every request. */
  | { readonly kind: 'busy'; readonly atMs: number; readonly node: number }
  /** Nodes below `node` and the others do not hear each other. */
  | { readonly kind: 'partition'; readonly atMs: number; readonly untilMs: number; readonly node: number }
  /** The origin refuses with a retry hint. */
  | {
      readonly kind: 'originDown';
      readonly atMs: number;
      readonly untilMs: number;
      readonly retryAfterMs: number;
    };

export interface WorldOptions {
  readonly nodes: number;
  readonly blobSizesBytes: readonly number[];
  readonly seed: number;
  readonly upBytesPerSecond: number;
  readonly downBytesPerSecond: number;
  readonly originBytesPerSecond: number;
  readonly latencyMs: number;
  readonly originLatencyMs: number;
  /** Nodes start evenly at random within this, ms. */
  readonly startSpreadMs: number;
  /** Start of single nodes, ms. */
  readonly startMs?: ReadonlyMap<number, number>;
  /** Nodes that hold every blob from the start. */
  readonly seeds?: readonly number[];
  /** Nodes that are members but want nothing. */
  readonly idle?: readonly number[];
  readonly mayNotReadOrigin?: readonly number[];
  readonly faults?: readonly Fault[];
  readonly limits?: Partial<SwarmLimits>;
}

type SimEvent =
  | { readonly kind: 'start'; readonly node: number }
  | { readonly kind: 'wake'; readonly node: number; readonly atMs: number }
  | {
      readonly kind: 'message';
      readonly from: number;
      readonly to: number;
      readonly link: number;
      readonly message: PeerMessage;
    }
  | { readonly kind: 'dialled'; readonly from: number; readonly to: number }
  | { readonly kind: 'closed'; readonly node: number; readonly peer: number; readonly reason: string }
  | { readonly kind: 'linkEnd'; readonly node: number; readonly version: number }
  | { readonly kind: 'originEnd'; readonly version: number }
  | { readonly kind: 'chunkBegun'; readonly upload: Upload }
  | { readonly kind: 'chunk'; readonly upload: Upload }
  | { readonly kind: 'originStart'; readonly read: OriginRead }
  | { readonly kind: 'originChunk'; readonly read: OriginRead }
  | { readonly kind: 'originFailed'; readonly read: OriginRead; readonly retryAfterMs: number }
  | { readonly kind: 'fault'; readonly fault: Fault };

interface Upload {
  readonly from: number;
  readonly to: number;
  readonly link: number;
  readonly requestId: number;
  readonly key: BlobKey;
  readonly chunk: number;
  readonly sentMs: number;
}

interface OriginRead {
  readonly node: number;
  readonly key: BlobKey;
  readonly run: ChunkRun;
  next: number;
  isCancelled: boolean;
}

interface SimNode {
  readonly index: number;
  core: SwarmNode;
  readonly up: FairLink<Upload>;
  downFreeMs: number;
  wakeAtMs: number;
  isAlive: boolean;
  isLiar: boolean;
  isBusy: boolean;
  frozenUntilMs: number;
  startMs: number;
  readonly openBlobs: Set<string>;
  doneMs: number | undefined;
  /** Peers connected, with the number of the connection: messages of an older one are lost. */
  readonly links: Map<number, number>;
}

export interface WorldCounts {
  originBytes: number;
  originRequests: number;
  peerBytes: number;
  wastedBytes: number;
  messages: number;
  events: number;
  busy: number;
}

/** Hosts real `SwarmNode`s over a modelled network. Deterministic: same options, same trace hash. */
export class World {
  readonly options: WorldOptions;
  readonly nodes: SimNode[] = [];
  readonly counts: WorldCounts = {
    originBytes: 0,
    originRequests: 0,
    peerBytes: 0,
    wastedBytes: 0,
    messages: 0,
    events: 0,
    busy: 0,
  };
  readonly notes = new Map<string, number>();
  readonly blobs: { readonly key: BlobKey; readonly sizeBytes: number; readonly hashes: HashRun[] }[];
  nowMs = 0;
  traceHash = 0x811c9dc5;
  readonly #heap = new EventHeap<SimEvent>();
  readonly #origin: FairLink<OriginRead>;
  readonly #reads = new Set<OriginRead>();
  readonly #blobByKey = new Map<string, { readonly sizeBytes: number; readonly hashes: HashRun[] }>();
  #partition: { readonly at: number; readonly untilMs: number } | undefined;
  #originDown: { readonly untilMs: number; readonly retryAfterMs: number } | undefined;
  #linkCount = 0;
  #pending = 0;
  #isBegun = false;

  constructor(options: WorldOptions) {
    this.options = options;
    this.#origin = new FairLink(options.originBytesPerSecond);
    this.blobs = options.blobSizesBytes.map((sizeBytes, index) => makeBlob(index, sizeBytes));
    for (const blob of this.blobs) this.#blobByKey.set(blobKeyId(blob.key), blob);
    const prng = new Prng(options.seed);
    for (let index = 0; index < options.nodes; index++) this.#addNode(index, prng);
    for (const fault of options.faults ?? []) this.#heap.push(fault.atMs, { kind: 'fault', fault });
  }

  /** Runs until every pulling node that is alive is done, or until `untilMs`. Whether all are done. */
  run(untilMs: number): boolean {
    for (const node of this.#isBegun ? [] : this.nodes) {
      node.core.handleMembers(this.#members(), this.nowMs);
      this.#drain(node);
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
    this.#heap.push(startMs, { kind: 'start', node: index });
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
        this.#linkEnd(event.node, event.version);
        return;
      case 'originEnd':
        this.#originLinkEnd(event.version);
        return;
      case 'chunkBegun':
        this.#chunkBegun(event.upload);
        return;
      case 'chunk':
        this.#chunkArrived(event.upload);
        return;
      case 'originStart':
        this.#originStart(event.read);
        return;
      case 'originChunk':
        this.#originChunk(event.read);
        return;
      case 'originFailed':
        this.#originFailed(event.read, event.retryAfterMs);
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
    this.#trace(1, index, 0);
    for (const blob of this.blobs) {
      if (this.options.idle?.includes(index)) continue;
      if (this.options.seeds?.includes(index)) node.core.seed(blob, this.nowMs);
      else {
        node.openBlobs.add(blobKeyId(blob.key));
        node.core.join({ ...blob, held: undefined, hashes: [] }, this.nowMs);
      }
    }
    this.#drain(node);
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
    if (this.#isFrozen(node)) {
      this.#schedule(node, node.frozenUntilMs);
      return;
    }
    node.core.handleTimeout(this.nowMs);
    this.#drain(node);
  }

  #deliver(event: Extract<SimEvent, { kind: 'message' }>): void {
    const node = this.nodes[event.to] as SimNode;
    if (!node.isAlive || node.links.get(event.from) !== event.link) return;
    if (this.#isFrozen(node)) {
      this.#heap.push(node.frozenUntilMs, event);
      return;
    }
    this.counts.messages++;
    this.#trace(2, event.to, event.from);
    if (node.isBusy && event.message.kind === 'request') {
      this.#send(node, event.from, { kind: 'busy', requestId: event.message.requestId, retryAfterMs: 50 });
      return;
    }
    if (event.message.kind === 'busy') this.counts.busy++;
    node.core.handleMessage(peerName(event.from), event.message, this.nowMs);
    this.#drain(node);
  }

  #connect(from: number, to: number): void {
    const dialler = this.nodes[from] as SimNode;
    const other = this.nodes[to] as SimNode;
    if (!dialler.isAlive) return;
    if (!other.isAlive || this.#isCut(from, to) || this.#isFrozen(other)) {
      this.#closed(from, to, 'cannot dial');
      return;
    }
    if (!dialler.links.has(to)) {
      const link = ++this.#linkCount;
      dialler.links.set(to, link);
      other.links.set(from, link);
      other.core.handleConnected(peerName(from), { zone: 'z' }, this.nowMs);
      this.#drain(other);
    }
    dialler.core.handleConnected(peerName(to), { zone: 'z' }, this.nowMs);
    this.#drain(dialler);
  }

  #closed(index: number, peer: number, reason: string): void {
    const node = this.nodes[index] as SimNode;
    node.links.delete(peer);
    if (!node.isAlive) return;
    node.core.handleDisconnected(peerName(peer), reason, this.nowMs);
    this.#drain(node);
  }

  #drain(node: SimNode): void {
    for (let action = node.core.pollAction(); action !== undefined; action = node.core.pollAction())
      this.#act(node, action);
    const wakeMs = node.core.nextWakeupMs();
    if (wakeMs !== undefined) this.#schedule(node, Math.max(this.nowMs, wakeMs));
  }

  #schedule(node: SimNode, atMs: number): void {
    if (atMs >= node.wakeAtMs) return;
    node.wakeAtMs = atMs;
    this.#heap.push(atMs, { kind: 'wake', node: node.index, atMs });
  }

  #act(node: SimNode, action: Action): void {
    switch (action.kind) {
      case 'dial':
        this.#heap.push(this.nowMs + 2 * this.options.latencyMs, {
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
        this.#readOrigin(node, action.key, action.run);
        return;
      case 'cancelOrigin':
        for (const read of this.#reads)
          if (read.node === node.index && isSame(read, action)) read.isCancelled = true;
        return;
      case 'serve':
        this.#serve(node, action);
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
    this.#heap.push(this.nowMs + this.options.latencyMs, {
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
        this.#heap.push(this.nowMs, { kind: 'closed', node: index, peer, reason: 'hung up' });
    }
  }

  #serve(node: SimNode, action: Extract<Action, { kind: 'serve' }>): void {
    const to = peerIndex(action.peer);
    const link = node.links.get(to);
    if (link === undefined) return;
    const upload: Upload = {
      from: node.index,
      to,
      link,
      requestId: action.requestId,
      key: action.key,
      chunk: action.chunk,
      sentMs: this.nowMs,
    };
    node.up.add(upload, this.#chunkBytes(action.key, action.chunk), this.nowMs);
    this.#heap.push(this.nowMs + this.options.latencyMs, { kind: 'chunkBegun', upload });
    this.#planLink(node);
  }

  #planLink(node: SimNode): void {
    const endMs = node.up.nextEndMs();
    if (endMs !== undefined)
      this.#heap.push(endMs, { kind: 'linkEnd', node: node.index, version: node.up.version });
  }

  #linkEnd(index: number, version: number): void {
    const node = this.nodes[index] as SimNode;
    if (!node.isAlive || node.up.version !== version) return;
    for (const upload of node.up.takeEnded(this.nowMs)) {
      this.#passDown(upload.to, this.#chunkBytes(upload.key, upload.chunk), this.options.latencyMs, {
        kind: 'chunk',
        upload,
      });
      node.core.handleServed(peerName(upload.to), upload.requestId, this.nowMs);
    }
    this.#planLink(node);
    this.#drain(node);
  }

  /** The receiving link passes chunks one after the other, each not before it was sent. */
  #passDown(to: number, sizeBytes: number, latencyMs: number, event: SimEvent): void {
    const node = this.nodes[to] as SimNode;
    const busyMs = (sizeBytes / this.options.downBytesPerSecond) * 1000;
    node.downFreeMs = Math.max(this.nowMs + latencyMs, node.downFreeMs + busyMs);
    this.#heap.push(node.downFreeMs, event);
  }

  #chunkBegun(upload: Upload): void {
    const node = this.nodes[upload.to] as SimNode;
    if (!node.isAlive || node.links.get(upload.from) !== upload.link || this.#isFrozen(node)) return;
    node.core.handleChunkBegun(peerName(upload.from), upload.requestId, this.nowMs);
  }

  #chunkArrived(upload: Upload): void {
    const node = this.nodes[upload.to] as SimNode;
    if (!node.isAlive || node.links.get(upload.from) !== upload.link) return;
    if (this.#isFrozen(node)) {
      this.#heap.push(node.frozenUntilMs, { kind: 'chunk', upload });
      return;
    }
    const peer = peerName(upload.from);
    const bytes = this.#chunkBytes(upload.key, upload.chunk);
    this.#trace(3, upload.to, upload.chunk);
    if (node.core.expectedRequest(peer, upload.requestId) === undefined) this.counts.wastedBytes += bytes;
    else this.counts.peerBytes += bytes;
    const isLie = this.nodes[upload.from]?.isLiar === true;
    const outcome = isLie ? 'wrongHash' : 'stored';
    const { key, chunk, requestId } = upload;
    node.core.handleChunk(
      { key, chunk, requestId, peer, outcome, elapsedMs: this.nowMs - upload.sentMs },
      this.nowMs,
    );
    this.#drain(node);
  }

  #readOrigin(node: SimNode, key: BlobKey, run: ChunkRun): void {
    const read: OriginRead = { node: node.index, key, run, next: run.firstChunk, isCancelled: false };
    this.counts.originRequests++;
    this.#reads.add(read);
    const atMs = this.nowMs + this.options.originLatencyMs;
    if (this.#originDown !== undefined && this.nowMs < this.#originDown.untilMs) {
      this.#heap.push(atMs, { kind: 'originFailed', read, retryAfterMs: this.#originDown.retryAfterMs });
    } else this.#heap.push(atMs, { kind: 'originStart', read });
  }

  #originStart(read: OriginRead): void {
    if (!this.nodes[read.node]?.isAlive || read.isCancelled) {
      this.#reads.delete(read);
      return;
    }
    this.#origin.add(read, this.#chunkBytes(read.key, read.next), this.nowMs);
    this.#planOrigin();
  }

  #planOrigin(): void {
    const endMs = this.#origin.nextEndMs();
    if (endMs !== undefined) this.#heap.push(endMs, { kind: 'originEnd', version: this.#origin.version });
  }

  #originLinkEnd(version: number): void {
    if (this.#origin.version !== version) return;
    for (const read of this.#origin.takeEnded(this.nowMs)) {
      const bytes = this.#chunkBytes(read.key, read.next);
      this.counts.originBytes += bytes;
      this.#passDown(read.node, bytes, 0, { kind: 'originChunk', read });
    }
    this.#planOrigin();
  }

  #originChunk(read: OriginRead): void {
    const node = this.nodes[read.node] as SimNode;
    if (!node.isAlive || read.isCancelled) {
      this.#reads.delete(read);
      return;
    }
    const chunk = read.next++;
    this.#trace(4, read.node, chunk);
    const hash = this.#blobByKey.get(blobKeyId(read.key))?.hashes[0]?.hashes[chunk] as ChunkHash;
    const isEnd = read.next === read.run.firstChunk + read.run.chunkCount;
    if (!isEnd) this.#originStart(read);
    node.core.handleOriginChunk(read.key, chunk, hash, this.nowMs);
    this.#drain(node);
    if (!isEnd) return;
    this.#reads.delete(read);
    node.core.handleOriginEnd(read.key, read.run, { ok: true }, this.nowMs);
    this.#drain(node);
  }

  #originFailed(read: OriginRead, retryAfterMs: number): void {
    const node = this.nodes[read.node] as SimNode;
    this.#reads.delete(read);
    if (!node.isAlive || read.isCancelled) return;
    const outcome = { ok: false, fatal: false, code: 'RATE_LIMITED', retryAfterMs } as const;
    node.core.handleOriginEnd(read.key, read.run, outcome, this.nowMs);
    this.#drain(node);
  }

  #complete(node: SimNode, key: BlobKey): void {
    if (!node.openBlobs.delete(blobKeyId(key)) || node.openBlobs.size > 0) return;
    node.doneMs = this.nowMs;
    this.#pending--;
    this.#trace(5, node.index, 0);
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
        this.#originDown = fault;
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
      this.#heap.push(this.nowMs + this.options.latencyMs, {
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
          this.#heap.push(this.nowMs + 1, { kind: 'closed', node: node.index, peer, reason: 'cut' });
      }
    }
  }

  #isCut(left: number, right: number): boolean {
    const cut = this.#partition;
    return cut !== undefined && this.nowMs < cut.untilMs && left < cut.at !== right < cut.at;
  }

  #isFrozen(node: SimNode): boolean {
    return this.nowMs < node.frozenUntilMs;
  }

  #chunkBytes(key: BlobKey, chunk: number): number {
    const sizeBytes = this.#blobByKey.get(blobKeyId(key))?.sizeBytes ?? 0;
    return Math.min(CHUNK_SIZE_BYTES, sizeBytes - chunk * CHUNK_SIZE_BYTES);
  }

  #trace(kind: number, node: number, detail: number): void {
    let hash = this.traceHash;
    for (const value of [kind, node, detail, Math.round(this.nowMs * 1000)])
      hash = Math.imul(hash ^ value, 0x01000193) >>> 0;
    this.traceHash = hash;
  }
}

function makeBlob(index: number, sizeBytes: number): { key: BlobKey; sizeBytes: number; hashes: HashRun[] } {
  const digest = `sha256:${index.toString(16).padStart(64, '0')}` as Digest;
  const hashes = Array.from({ length: chunkCountOf(sizeBytes) }, (_, chunk) => {
    const hash = new Uint8Array(32);
    new DataView(hash.buffer).setUint32(0, chunk);
    hash[31] = index;
    return hash;
  });
  return { key: { host: 'registry.test', digest }, sizeBytes, hashes: [{ firstChunk: 0, hashes }] };
}

function isSame(read: OriginRead, action: { readonly key: BlobKey; readonly run: ChunkRun }): boolean {
  return blobKeyId(read.key) === blobKeyId(action.key) && read.run.firstChunk === action.run.firstChunk;
}

function peerName(index: number): string {
  return `10.${index >>> 16}.${(index >>> 8) & 255}.${index & 255}:65002`;
}

function peerIndex(peer: string): number {
  const [, high, middle, low] = /^10\.(\d+)\.(\d+)\.(\d+):/.exec(peer) ?? [];
  return (Number(high) << 16) | (Number(middle) << 8) | Number(low);
}
