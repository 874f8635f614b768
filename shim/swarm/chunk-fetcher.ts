import type { BlobKey } from '../base/blob-key.ts';
import type { ChunkLedger } from './chunk-ledger.ts';
import { pickCommon, pickRarest } from './chunk-picker.ts';
import { ImportTasks } from './import-tasks.ts';
import type { PeerId } from './messages.ts';
import type { Neighbour, Neighbours } from './neighbours.ts';
import type { ChunkRequest } from './request-table.ts';
import type { SwarmContext } from './swarm-context.ts';

/** A neighbour's window may grow to this many times its fair share of the requests. */
const WINDOW_SHARES = 3;
/** A request that takes this many times the usual is slow. */
const SLOW_MEDIANS = 2;
/** Where a chunk comes from a second time, one of the two is waste; below this age a hedge cannot pay, ms. */
const ENDGAME_AGE_MIN_MS = 20;

/** Asks neighbours for the chunks of one blob: which, of whom, when again. */
export class ChunkFetcher {
  readonly #context: SwarmContext;
  readonly #blob: { readonly key: BlobKey; readonly keyId: string };
  readonly #ledger: ChunkLedger;
  readonly #neighbours: Neighbours;
  readonly #windowEnd: () => number;
  /** First chunk that the consumer has not taken yet; it waits for the first of all from the start. */
  consumerChunk = 0;
  readonly imports: ImportTasks;
  /** Other zones may be asked for anything: nobody else is in this one, or it does not get what it lacks. */
  mayCross = false;

  constructor(
    context: SwarmContext,
    blob: {
      key: BlobKey;
      keyId: string;
      ledger: ChunkLedger;
      neighbours: Neighbours;
      windowEnd: () => number;
    },
  ) {
    this.#context = context;
    this.#blob = blob;
    this.#ledger = blob.ledger;
    this.#neighbours = blob.neighbours;
    this.imports = new ImportTasks(blob.ledger);
    this.#windowEnd = blob.windowEnd;
  }

  /** Sends requests until enough are under way or nobody has more to give. Returns when a pause ends, if one matters. */
  pump(nowMs: number): number | undefined {
    let resumesMs = this.#pumpImports(nowMs);
    const { requests, prng } = this.#context;
    if (requests.brisk >= requests.target || !this.hasOpen) return finite(resumesMs);
    const usable: Neighbour[] = [];
    for (const neighbour of this.#neighbours.values()) {
      if (neighbour.state !== 'live' || neighbour.inFlight >= Math.floor(neighbour.window)) continue;
      if (nowMs < neighbour.pausedUntilMs) resumesMs = Math.min(resumesMs, neighbour.pausedUntilMs);
      else usable.push(neighbour);
    }
    prng.shuffle(usable);
    const inOrder = this.#allComplete();
    for (let turn = 0; usable.length > 0 && requests.brisk < requests.target; ) {
      turn %= usable.length;
      const neighbour = usable[turn] as Neighbour;
      const chunk = this.#pick(neighbour, inOrder);
      if (chunk !== undefined) this.#request(neighbour.peer, chunk, nowMs);
      if (chunk === undefined || neighbour.inFlight >= Math.floor(neighbour.window)) usable.splice(turn, 1);
      else turn++;
    }
    return finite(resumesMs);
  }

  /** Whether the consumer has hardly anything left to take. */
  get isConsumerHungry(): boolean {
    const { consumerEnoughChunks } = this.#context.limits;
    return this.#ledger.held.firstMissing() - this.consumerChunk < consumerEnoughChunks;
  }

  /** Whether the consumer of a small swarm's node cannot begin; in large ones all would ask few holders for the same. */
  get #hasNothingToTake(): boolean {
    const { peers, limits } = this.#context;
    return peers.othersCount < limits.smallSwarm && this.#ledger.held.firstMissing() === 0;
  }

  /** Whether chunks of the window can be asked for now. */
  get hasOpen(): boolean {
    return this.#ledger.open.firstPresent(this.#ledger.held.firstMissing(), this.#windowEnd()) !== undefined;
  }

  /** Whether a peer has been asked for any chunk of the blob and may still send it. */
  get hasRequests(): boolean {
    for (const { keyId, state } of this.#context.requests.values())
      if (keyId === this.#blob.keyId && state === 'live') return true;
    return false;
  }

  /** Gives up on requests that take too long and hedges those that take long. */
  tick(nowMs: number): void {
    this.#giveUpSilent(nowMs);
    const { requests, limits } = this.#context;
    const isEndgame = this.#ledger.missingCount <= limits.endgameChunks;
    for (const request of [...requests.values()]) {
      if (request.keyId !== this.#blob.keyId || request.state === 'late') continue;
      const ageMs = nowMs - request.sentMs;
      if (ageMs > SLOW_MEDIANS * requests.medianMs && requests.medianMs > 0) requests.markSlow(request);
      if (nowMs >= request.deadlineMs) this.#timeOut(request, nowMs);
      else if (request.hasHedge) continue;
      else if (isEndgame && ageMs > Math.max(ENDGAME_AGE_MIN_MS, 2 * requests.medianMs))
        this.#hedge(request, nowMs);
      else if (ageMs > requests.hedgeDelayMs && requests.mayHedge) this.#hedge(request, nowMs);
    }
  }

  /** The first bytes of an answer came: the peer is at work. */
  handleBegun(request: ChunkRequest, nowMs: number): void {
    if (!request.hasBegun) this.#context.requests.recordBegun(nowMs - request.sentMs);
    request.hasBegun = true;
    this.#heard(request.peer, nowMs);
  }

  /** Whether the chunk is new here. */
  handleStored(peer: PeerId, requestId: number, chunk: number, nowMs: number): boolean {
    const { requests, peers } = this.#context;
    const request = requests.of(peer, requestId);
    if (request !== undefined) {
      requests.recordArrival(nowMs - request.sentMs, nowMs);
      this.#finish(request);
    }
    peers.succeeded(peer);
    this.#heard(peer, nowMs);
    this.#reward(peer);
    const isNew = this.#ledger.hold(chunk, peer);
    if (isNew) this.#cancelOthers(chunk);
    return isNew;
  }

  handleBusy(request: ChunkRequest, retryAfterMs: number, nowMs: number): void {
    const { limits } = this.#context;
    const neighbour = this.#neighbours.get(request.peer);
    this.#finish(request);
    const hintMs = retryAfterMs >= 1 ? Math.min(limits.busyHintMaxMs, retryAfterMs) : limits.busyHintMinMs;
    const untilMs = () => nowMs + this.#context.prng.jitter(hintMs, 30);
    if (this.imports.isFrom(request.chunk, request.peer)) this.imports.pause(request.chunk, untilMs());
    if (neighbour === undefined) return;
    neighbour.window = Math.max(1, neighbour.inFlight);
    if (neighbour.inFlight === 0) neighbour.pausedUntilMs = untilMs();
  }

  handleGone(request: ChunkRequest): void {
    const neighbour = this.#neighbours.get(request.peer);
    if (neighbour !== undefined) this.#neighbours.lose(neighbour, request.chunk);
    if (this.imports.isFrom(request.chunk, request.peer)) this.imports.end(request.chunk);
    this.#finish(request);
  }

  handleFailed(request: ChunkRequest, nowMs: number): void {
    const wasLive = request.state === 'live';
    this.#finish(request);
    // One that was given up already has been counted.
    if (wasLive) this.#punish(request.peer, nowMs);
  }

  /** The peer is no neighbour any longer: what was asked of it is asked of others. */
  dropPeer(peer: PeerId): void {
    for (const request of [...this.#context.requests.values()]) {
      if (request.peer === peer && request.keyId === this.#blob.keyId) this.#finish(request);
    }
  }

  /** Gives up every request of the blob. */
  dropAll(): void {
    for (const request of [...this.#context.requests.values()]) {
      if (request.keyId !== this.#blob.keyId) continue;
      if (request.state === 'live')
        this.#context.send(request.peer, { kind: 'cancel', requestId: request.id });
      this.#finish(request);
    }
  }

  #allComplete(): boolean {
    for (const neighbour of this.#neighbours.values()) {
      if (neighbour.state === 'live' && !neighbour.available.isFull) return false;
    }
    return true;
  }

  /** A whole zone waits for these: they need no place among the other requests. Returns when a pause ends. */
  #pumpImports(nowMs: number): number {
    let resumesMs = Number.POSITIVE_INFINITY;
    for (const { chunk, source, pausedUntilMs } of this.imports.open()) {
      if (nowMs < pausedUntilMs) resumesMs = Math.min(resumesMs, pausedUntilMs);
      else if (this.#context.peers.reach(source, nowMs)) this.#request(source, chunk, nowMs);
    }
    return resumesMs;
  }

  #pick(neighbour: Neighbour, inOrder: boolean): number | undefined {
    const { limits, prng } = this.#context;
    const { held, open } = this.#ledger;
    if (neighbour.isFar && !this.mayCross) return undefined;
    const from = held.firstMissing();
    const to = this.#windowEnd();
    if (inOrder) return open.firstPresent(from, to);
    if (this.#hasNothingToTake && open.has(from) && neighbour.available.has(from)) return from;
    if (this.isConsumerHungry && prng.chance(1, 4)) {
      const front = pickCommon(
        open,
        neighbour.available,
        { from, to: Math.min(to, from + limits.frontBandChunks) },
        prng,
      );
      if (front !== undefined) return front;
    }
    return pickRarest(open, neighbour.available, { from, to, copies: this.#neighbours.copies }, prng);
  }

  #request(peer: PeerId, chunk: number, nowMs: number, isHedge = false): void {
    const { key, keyId } = this.#blob;
    const request = this.#context.requests.add({ key, keyId, chunk, peer, isHedge }, nowMs);
    const neighbour = this.#neighbours.get(peer);
    if (neighbour !== undefined) neighbour.inFlight++;
    this.#ledger.addRequest(chunk);
    this.#context.send(peer, { kind: 'request', requestId: request.id, key, chunk });
  }

  #hedge(request: ChunkRequest, nowMs: number): void {
    const others: Neighbour[] = [];
    for (const neighbour of this.#neighbours.values()) {
      if (neighbour.peer === request.peer || neighbour.state !== 'live' || nowMs < neighbour.pausedUntilMs)
        continue;
      if (neighbour.isFar && !this.mayCross) continue;
      if (neighbour.inFlight < Math.floor(neighbour.window) && neighbour.available.has(request.chunk)) {
        others.push(neighbour);
      }
    }
    const other = others[this.#context.prng.below(others.length)];
    if (other === undefined) return;
    request.hasHedge = true;
    this.#request(other.peer, request.chunk, nowMs, true);
  }

  /** Peers that accept requests and send nothing; one that sends another chunk first is at work. */
  #giveUpSilent(nowMs: number): void {
    const { requests } = this.#context;
    const { silenceMs } = requests;
    if (silenceMs === Number.POSITIVE_INFINITY) return;
    const live = [...requests.values()].filter(
      ({ keyId, state }) => keyId === this.#blob.keyId && state === 'live',
    );
    const busy = new Set(live.filter(({ hasBegun }) => hasBegun).map(({ peer }) => peer));
    const silent = live.filter(({ peer, sentMs }) => {
      const heardMs = this.#neighbours.get(peer)?.heardMs ?? Number.NEGATIVE_INFINITY;
      return !busy.has(peer) && nowMs - Math.max(sentMs, heardMs) >= silenceMs;
    });
    for (const request of silent) if (request.state === 'live') this.#timeOut(request, nowMs);
    if (silent.length > 0) requests.noteSilence();
  }

  #heard(peer: PeerId, nowMs: number): void {
    const neighbour = this.#neighbours.get(peer);
    if (neighbour !== undefined) neighbour.heardMs = nowMs;
  }

  #timeOut(request: ChunkRequest, nowMs: number): void {
    this.#context.note('requestTimeout', request.peer, request.key, `chunk ${request.chunk}`);
    this.#giveUp(request);
    this.#punish(request.peer, nowMs);
  }

  #punish(peer: PeerId, nowMs: number): void {
    const neighbour = this.#neighbours.get(peer);
    if (neighbour !== undefined) neighbour.window = Math.max(1, neighbour.inFlight);
    if (!this.#context.peers.failed(peer, nowMs)) return;
    this.#context.note('peerBackedOff', peer, this.#blob.key, '');
    this.#neighbours.drop(peer, nowMs, this.#context.limits.backOffMinMs);
    for (const request of [...this.#context.requests.values()]) {
      if (request.peer === peer && request.keyId === this.#blob.keyId && request.state === 'live')
        this.#giveUp(request);
    }
  }

  #giveUp(request: ChunkRequest): void {
    this.#context.send(request.peer, { kind: 'cancel', requestId: request.id });
    this.#release(request);
    this.#context.requests.makeLate(request);
  }

  #cancelOthers(chunk: number): void {
    for (const request of [...this.#context.requests.values()]) {
      if (request.chunk !== chunk || request.keyId !== this.#blob.keyId || request.state === 'late') continue;
      this.#giveUp(request);
    }
  }

  #finish(request: ChunkRequest): void {
    this.#release(request);
    this.#context.requests.remove(request);
  }

  #release(request: ChunkRequest): void {
    if (request.state === 'late') return;
    const neighbour = this.#neighbours.get(request.peer);
    if (neighbour !== undefined && neighbour.inFlight > 0) neighbour.inFlight--;
    this.#ledger.dropRequest(request.chunk);
  }

  #reward(peer: PeerId): void {
    const neighbour = this.#neighbours.get(peer);
    if (neighbour === undefined) return;
    const { requests, limits } = this.#context;
    const share = Math.ceil((WINDOW_SHARES * requests.target) / Math.max(1, this.#neighbours.size));
    const windowMax = Math.min(limits.requestsPerPeerMax, Math.max(2, share));
    neighbour.delivered++;
    neighbour.pausedUntilMs = 0;
    neighbour.window = Math.min(windowMax, neighbour.window + 0.5);
  }
}

/** Undefined for a time that never comes. */
function finite(atMs: number): number | undefined {
  return atMs === Number.POSITIVE_INFINITY ? undefined : atMs;
}
