import type { BlobKey } from '../base/blob-key.ts';
import type { SwarmLimits } from './limits.ts';
import type { PeerId } from './messages.ts';

/**
 * `live`: an answer is awaited. `late`: given up and cancelled, but a chunk that was on its way already is still welcome.
 */
export interface ChunkRequest {
  readonly id: number;
  readonly key: BlobKey;
  readonly keyId: string;
  readonly chunk: number;
  readonly peer: PeerId;
  readonly sentMs: number;
  readonly deadlineMs: number;
  /** A second request for a chunk that is under way elsewhere. */
  readonly isHedge: boolean;
  state: 'live' | 'late';
  /** Its chunk is on its way. */
  hasBegun: boolean;
  hasHedge: boolean;
  /** It takes much longer than usual, and so has no place of its own among those under way. */
  isSlow: boolean;
}

/** Cancelled requests are remembered for late answers, oldest forgotten first. */
const LATE_MAX = 64;
/** Recent chunk times kept for percentiles. */
const SAMPLES = 64;
/** A round trip that got longer is noticed within some dozen answers. */
const ROUND_TRIP_GROWTH = 1.02;
/** Without a sample a chunk may take this long, ms: 2 MiB at 2 Mbit/s. */
const FIRST_TIMEOUT_MS = 10_000;

/** Chunk requests of this node at its peers, over all blobs, and how long they usually take. */
export class RequestTable {
  readonly #limits: SwarmLimits;
  readonly #requests = new Map<number, ChunkRequest>();
  readonly #late: number[] = [];
  readonly #samples = new Float64Array(SAMPLES);
  #sampleCount = 0;
  #p95Ms = 0;
  #medianMs = 0;
  #nextId = 1;
  #live = 0;
  #slow = 0;
  #sent = 0;
  #hedged = 0;
  /** How long a peer may be silent while no chunk has come from anybody yet: doubled each time that it was not enough. */
  #silenceMs: number;
  #roundTripMs = 0;
  #gapMs = Number.POSITIVE_INFINITY;
  #lastArrivalMs = Number.NEGATIVE_INFINITY;

  constructor(limits: SwarmLimits) {
    this.#limits = limits;
    this.#silenceMs = limits.firstByteTimeoutMs;
  }

  get live(): number {
    return this.#live;
  }

  /** Live requests besides slow ones: a chunk that trickles in leaves the link to others. */
  get brisk(): number {
    return this.#live - Math.min(this.#slow, this.target);
  }

  markSlow(request: ChunkRequest): void {
    if (request.isSlow || request.state !== 'live') return;
    request.isSlow = true;
    this.#slow++;
  }

  /** After this without a byte a peer counts as silent; endless once it is known how long a chunk takes. */
  get silenceMs(): number {
    return this.#sampleCount === 0 ? this.#silenceMs : Number.POSITIVE_INFINITY;
  }

  get medianMs(): number {
    return this.#medianMs;
  }

  get hedgeDelayMs(): number {
    return Math.max(this.#limits.hedgeFloorMs, this.#p95Ms);
  }

  get mayHedge(): boolean {
    return (this.#hedged - 1) * 100 < this.#sent * this.#limits.hedgeBudgetPercent;
  }

  /**
   * How many requests should be under way: what arrives at the present rate while an answer is on its way, and a little more,
   * within limits. With many more than that the link is full of chunks that all come late, and can be passed on late.
   */
  get target(): number {
    const { requestsStart, requestsMax, requestsAheadMs } = this.#limits;
    const aheadMs = requestsAheadMs + 2 * this.#roundTripMs;
    return Math.min(requestsMax, Math.max(requestsStart, Math.ceil(aheadMs / this.#gapMs)));
  }

  /** The first bytes of an answer came this long after the request: the least of these is the round trip. */
  recordBegun(tookMs: number): void {
    this.#roundTripMs = Math.min(Math.max(0, tookMs), this.#roundTripMs * ROUND_TRIP_GROWTH || tookMs);
  }

  add(
    what: { key: BlobKey; keyId: string; chunk: number; peer: PeerId; isHedge: boolean },
    nowMs: number,
  ): ChunkRequest {
    const id = this.#nextId;
    this.#nextId = (this.#nextId % 0xffffffff) + 1;
    const deadlineMs = nowMs + this.#timeoutMs();
    const request: ChunkRequest = {
      ...what,
      id,
      sentMs: nowMs,
      deadlineMs,
      state: 'live',
      hasBegun: false,
      hasHedge: what.isHedge,
      isSlow: false,
    };
    this.#requests.set(id, request);
    this.#live++;
    this.#sent++;
    if (what.isHedge) this.#hedged++;
    return request;
  }

  get(id: number): ChunkRequest | undefined {
    return this.#requests.get(id);
  }

  /** The request of this peer under this id, live or late. */
  of(peer: PeerId, id: number): ChunkRequest | undefined {
    const request = this.#requests.get(id);
    return request?.peer === peer ? request : undefined;
  }

  values(): Iterable<ChunkRequest> {
    return this.#requests.values();
  }

  remove(request: ChunkRequest): void {
    if (!this.#requests.delete(request.id)) return;
    if (request.state === 'live') this.#countEnd(request);
  }

  /** A silent peer may be a slow one: the next is given longer. */
  noteSilence(): void {
    this.#silenceMs = Math.min(FIRST_TIMEOUT_MS, 2 * this.#silenceMs);
  }

  /** Gives a live request up but stays ready for its answer. */
  makeLate(request: ChunkRequest): void {
    if (request.state === 'late') return;
    request.state = 'late';
    this.#countEnd(request);
    this.#late.push(request.id);
    if (this.#late.length <= LATE_MAX) return;
    const oldest = this.#late.shift();
    if (oldest !== undefined && this.#requests.get(oldest)?.state === 'late') this.#requests.delete(oldest);
  }

  recordArrival(tookMs: number, nowMs: number): void {
    this.#samples[this.#sampleCount % SAMPLES] = tookMs;
    this.#sampleCount++;
    if (this.#sampleCount < 8 || this.#sampleCount % 8 === 0) this.#updatePercentiles();
    // Chunks that were asked for together come together: the first of them stands for the time that all took. A rest is no gap.
    const gapMs = Math.max(0.01, Math.min(tookMs, nowMs - this.#lastArrivalMs));
    this.#gapMs = this.#gapMs === Number.POSITIVE_INFINITY ? gapMs : this.#gapMs + (gapMs - this.#gapMs) / 16;
    this.#lastArrivalMs = nowMs;
  }

  #countEnd(request: ChunkRequest): void {
    this.#live--;
    if (request.isSlow) this.#slow--;
  }

  #updatePercentiles(): void {
    const sorted = this.#samples.slice(0, Math.min(SAMPLES, this.#sampleCount)).sort();
    this.#p95Ms = sorted[Math.floor(sorted.length * 0.95)] ?? 0;
    this.#medianMs = sorted[sorted.length >>> 1] ?? 0;
  }

  #timeoutMs(): number {
    const { requestTimeoutMinMs, requestTimeoutMaxMs } = this.#limits;
    if (this.#sampleCount === 0) return FIRST_TIMEOUT_MS;
    return Math.min(requestTimeoutMaxMs, Math.max(requestTimeoutMinMs, 4 * this.#p95Ms));
  }
}
