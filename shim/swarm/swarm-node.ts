import { assert } from '../base/assert.ts';
import { type BlobKey, blobKeyId } from '../base/blob-key.ts';
import type { Bitmap } from './bitmap.ts';
import { BlobSwarm } from './blob-swarm.ts';
import type { OriginLimits } from './budget-bucket.ts';
import { Directory } from './directory.ts';
import { BLOB_SIZE_MAX_BYTES, type SwarmLimits } from './limits.ts';
import { MessageRouter } from './message-router.ts';
import type { Action, ChunkHash, ChunkRun, HashRun, PeerId, PeerMessage } from './messages.ts';
import type { OriginOutcome } from './origin-reader.ts';
import { isBehindOthers, PullWait } from './stall-watch.ts';
import { SwarmContext } from './swarm-context.ts';
import { type SwarmSnapshot, takeSnapshot } from './swarm-snapshot.ts';

export type { OriginLimits } from './budget-bucket.ts';
export type { OriginOutcome } from './origin-reader.ts';
export { PullWait } from './stall-watch.ts';
export type { SwarmSnapshot } from './swarm-snapshot.ts';

export interface SwarmNodeOptions {
  readonly self: PeerId;
  readonly zone: string;
  /** Seeds every random choice of this node. */
  readonly seed: number;
  /** False for nodes that leave reading at the origin to others as long as there are others. */
  readonly mayReadOrigin: boolean;
  readonly limits?: Partial<SwarmLimits>;
  /** What all nodes together may read of one registry host; the same at all of them. */
  readonly originLimits?: OriginLimits;
}

export interface Member {
  readonly peer: PeerId;
  readonly zone: string;
}

/** What became of a chunk frame: checked against `expectedHash` and stored, wrong, or not whole. */
export interface ChunkArrival {
  readonly key: BlobKey;
  readonly chunk: number;
  readonly requestId: number;
  readonly peer: PeerId;
  readonly outcome: 'stored' | 'wrongHash' | 'failed';
  readonly elapsedMs: number;
}

export interface JoinOptions {
  readonly key: BlobKey;
  readonly sizeBytes: number;
  /** Verified chunks from before; each needs its hash in `hashes`, else it counts as missing. */
  readonly held: Bitmap | undefined;
  readonly hashes: readonly HashRun[];
}

export interface SeedOptions {
  readonly key: BlobKey;
  readonly sizeBytes: number;
  /** Hashes of all chunks. */
  readonly hashes: readonly HashRun[];
}

/** Dials that the driver never answered are looked for this often, ms. */
const DIAL_SWEEP_MS = 1_000;

/**
 * Everything one node decides about sharing blobs. See README.md for the contract; in short: after every `handle…`
 * and command, drain `pollAction`, then call `handleTimeout` at `nextWakeupMs`. Time never goes backwards.
 */
export class SwarmNode {
  readonly #context: SwarmContext;
  readonly #directory: Directory;
  readonly #router: MessageRouter;
  /** In the order in which they were wanted, which is the order in which they are served with requests and leases. */
  readonly #blobs = new Map<string, BlobSwarm>();
  #nowMs = Number.NEGATIVE_INFINITY;
  #dialSweepMs = Number.POSITIVE_INFINITY;

  constructor(options: SwarmNodeOptions) {
    this.#context = new SwarmContext(options);
    this.#directory = new Directory(this.#context);
    this.#router = new MessageRouter(this.#context, this.#directory, this.#blobs);
  }

  /** The full present membership; this node itself may be absent from it. */
  handleMembers(members: readonly Member[], nowMs: number): void {
    this.#begin(nowMs);
    this.#context.peers.setMembers(members);
    this.#context.budget.handleMembers();
    for (const blob of this.#blobs.values()) {
      if (blob.directories.refreshRanking()) blob.directories.announceSoon(nowMs);
      blob.plan();
    }
    this.#end(nowMs, undefined);
  }

  /** Whether this node may read the origin from now on, though it is not alone. Reads that are granted go on. */
  setMayReadOrigin(mayReadOrigin: boolean, nowMs: number): void {
    this.#begin(nowMs);
    this.#context.mayReadOrigin = mayReadOrigin;
    for (const blob of this.#blobs.values()) blob.plan();
    this.#end(nowMs, undefined);
  }

  /** A connection (dialled or accepted) passed its hello. */
  handleConnected(peer: PeerId, info: { readonly zone: string }, nowMs: number): void {
    this.#begin(nowMs);
    if (this.#context.bans.isBanned(peer, nowMs)) {
      this.#context.emit({ kind: 'hangUp', peer, reason: 'banned' });
    } else {
      this.#context.peers.connected(peer, info.zone);
      this.#context.budget.handleConnected();
      for (const blob of this.#blobs.values()) blob.handleConnected(peer, nowMs);
    }
    this.#end(nowMs, undefined);
  }

  /** A connection ended, or a dial failed. */
  handleDisconnected(peer: PeerId, _reason: string, nowMs: number): void {
    this.#begin(nowMs);
    const wasConnected = this.#context.peers.disconnected(peer, nowMs);
    this.#context.uploads.releasePeer(peer);
    this.#context.budget.handleDisconnected(peer);
    if (wasConnected) this.#directory.handleDisconnected(peer, nowMs);
    for (const blob of this.#blobs.values()) blob.handleDisconnected(peer, nowMs);
    for (const request of [...this.#context.requests.values()]) {
      if (request.peer === peer) this.#context.requests.remove(request);
    }
    this.#end(nowMs, undefined);
  }

  handleMessage(peer: PeerId, message: PeerMessage, nowMs: number): void {
    this.#begin(nowMs);
    const isHeard = this.#context.peers.isConnected(peer) && !this.#context.bans.isBanned(peer, nowMs);
    const blob = isHeard ? this.#router.dispatch(peer, message, nowMs) : undefined;
    this.#end(nowMs, blob);
  }

  /** A chunk frame began to arrive. */
  handleChunkBegun(peer: PeerId, requestId: number, nowMs: number): void {
    this.#begin(nowMs);
    const request = this.#context.requests.of(peer, requestId);
    if (request !== undefined) this.#blobs.get(request.keyId)?.fetcher.handleBegun(request, nowMs);
  }

  /** A chunk frame arrived whole, was wrong, or its connection gave up on it. */
  handleChunk(arrival: ChunkArrival, nowMs: number): void {
    this.#begin(nowMs);
    const blob = this.#blobs.get(blobKeyId(arrival.key));
    const request = this.#context.requests.of(arrival.peer, arrival.requestId);
    if (arrival.outcome === 'stored') blob?.handleStored(arrival, nowMs);
    else if (request !== undefined) {
      blob?.fetcher.handleFailed(request, nowMs);
      if (arrival.outcome === 'wrongHash') this.#ban(arrival.peer, blob, nowMs);
    }
    this.#end(nowMs, undefined);
  }

  /** One chunk of a `readOrigin` action is stored and hashes to this. */
  handleOriginChunk(key: BlobKey, chunk: number, hash: ChunkHash, nowMs: number): void {
    this.#begin(nowMs);
    const blob = this.#blobs.get(blobKeyId(key));
    blob?.handleOriginChunk(chunk, hash, nowMs);
    for (const liar of blob?.trust.takeLiars() ?? []) this.#ban(liar, blob, nowMs);
    this.#end(nowMs, blob);
  }

  /** A `readOrigin` action ended; `run` is the action's own. */
  handleOriginEnd(key: BlobKey, run: ChunkRun, outcome: OriginOutcome, nowMs: number): void {
    this.#begin(nowMs);
    const blob = this.#blobs.get(blobKeyId(key));
    if (blob !== undefined) this.#context.budget.handleEnd(blob.origin, run, outcome, nowMs);
    blob?.origin.tick(nowMs);
    this.#end(nowMs, blob);
  }

  /** Why nothing of the blob may be coming although nothing is wrong. */
  waitOf(key: BlobKey, nowMs: number): PullWait {
    this.#begin(nowMs);
    const blob = this.#blobs.get(blobKeyId(key));
    if (blob?.isSated === true || this.#context.budget.isShort(key.host, nowMs)) return PullWait.Leave;
    return isBehindOthers(blob, this.#context.pulling) ? PullWait.Others : PullWait.None;
  }

  /** A `serve` action ended, sent or not: its upload slot is free. */
  handleServed(peer: PeerId, requestId: number, nowMs: number): void {
    this.#begin(nowMs);
    this.#context.uploads.release(peer, requestId, nowMs);
  }

  handleTimeout(nowMs: number): void {
    this.#begin(nowMs);
    if (nowMs < this.#context.wakeMs) return;
    this.#context.wakeMs = Number.POSITIVE_INFINITY;
    if (nowMs >= this.#dialSweepMs) {
      this.#dialSweepMs = nowMs + DIAL_SWEEP_MS;
      this.#context.peers.expireDials(nowMs);
    }
    this.#directory.handleTimeout(nowMs);
    for (const blob of this.#blobs.values()) {
      if (nowMs >= blob.dueMs) blob.handleTimeout(nowMs);
      this.#context.wakeMs = Math.min(this.#context.wakeMs, blob.dueMs);
    }
    this.#end(nowMs, undefined);
  }

  /** This node wants the blob. Joining again what is joined or seeded changes nothing. */
  join(options: JoinOptions, nowMs: number): void {
    this.#begin(nowMs);
    this.#add(options, options.held, nowMs);
    this.#end(nowMs, undefined);
  }

  /** This node holds all of the blob, its digest is right, and it only serves it: also one that had it from the origin alone. */
  seed(options: SeedOptions, nowMs: number): void {
    this.#begin(nowMs);
    const id = blobKeyId(options.key);
    const known = this.#blobs.get(id);
    if (known?.isOriginOnly && !known.isPulling) this.#blobs.delete(id);
    this.#add(options, undefined, nowMs);
    this.#end(nowMs, undefined);
  }

  /** This node neither wants nor serves the blob any longer. */
  leave(key: BlobKey, nowMs: number): void {
    this.#begin(nowMs);
    const blob = this.#blobs.get(blobKeyId(key));
    blob?.stop(nowMs);
    this.#blobs.delete(blobKeyId(key));
    this.#end(nowMs, undefined);
  }

  /**
   * The blob's digest was wrong: forgets every chunk and reads the origin alone from now on. A peer that supplied other
   * bytes than the origin gives is banned when that shows.
   */
  distrust(key: BlobKey, nowMs: number): void {
    this.#begin(nowMs);
    this.#blobs.get(blobKeyId(key))?.distrust(nowMs);
    this.#end(nowMs, undefined);
  }

  /**
   * Where the consumer of the blob's bytes is; chunks just ahead of it come first. With `setsPace` no more is fetched than
   * what it will want soon; to be told from the start then, with byte 0.
   */
  setConsumer(
    key: BlobKey,
    { nextByte, setsPace }: { readonly nextByte: number; readonly setsPace: boolean },
    nowMs: number,
  ): void {
    this.#begin(nowMs);
    const blob = this.#blobs.get(blobKeyId(key));
    if (blob === undefined) return;
    const wasSated = blob.isSated;
    blob.setConsumer(nextByte, setsPace);
    // At its end what it had of the window is another blob's.
    if (wasSated || nextByte >= blob.sizeBytes) this.#end(nowMs, undefined);
  }

  /** What an arriving chunk must hash to; undefined when nobody whom we believe has said yet. */
  expectedHash(key: BlobKey, chunk: number): ChunkHash | undefined {
    const blob = this.#blobs.get(blobKeyId(key));
    return blob === undefined || blob.isOriginOnly ? undefined : blob.ledger.hashes[chunk];
  }

  /** What this peer was asked for under this id, and when; undefined when the answer is not wanted (any longer). */
  expectedRequest(
    peer: PeerId,
    requestId: number,
  ): { readonly key: BlobKey; readonly chunk: number; readonly sentMs: number } | undefined {
    const request = this.#context.requests.of(peer, requestId);
    if (request === undefined) return undefined;
    const ledger = this.#blobs.get(request.keyId)?.ledger;
    return ledger === undefined || ledger.held.has(request.chunk)
      ? undefined
      : { key: request.key, chunk: request.chunk, sentMs: request.sentMs };
  }

  pollAction(): Action | undefined {
    return this.#context.pollAction();
  }

  /** When `handleTimeout` wants to be called; undefined when nothing is pending. */
  nextWakeupMs(): number | undefined {
    const { wakeMs } = this.#context;
    return wakeMs === Number.POSITIVE_INFINITY ? undefined : Math.max(this.#nowMs, wakeMs);
  }

  snapshot(): SwarmSnapshot {
    return takeSnapshot(this.#context, this.#directory, this.#blobs.values());
  }

  #add(options: SeedOptions, held: Bitmap | undefined, nowMs: number): void {
    const id = blobKeyId(options.key);
    if (this.#blobs.has(id)) return;
    assert(
      options.sizeBytes >= 0 && options.sizeBytes <= BLOB_SIZE_MAX_BYTES,
      'a blob has a size within limits',
    );
    const blob = new BlobSwarm(this.#context, options.key, options.sizeBytes);
    this.#blobs.set(id, blob);
    blob.start(held, options.hashes, nowMs);
    this.#dialSweepMs = Math.min(this.#dialSweepMs, nowMs + DIAL_SWEEP_MS);
  }

  /** What it claims to hold counts no longer, here as a directory neither. */
  #ban(peer: PeerId, blob: BlobSwarm | undefined, nowMs: number): void {
    this.#context.note('banned', peer, blob?.key, 'wrong bytes');
    this.#context.peers.ban(peer, nowMs);
    blob?.trust.noteBanned(peer);
    this.#directory.handleDisconnected(peer, nowMs);
    for (const other of this.#blobs.values()) other.dropPeer(peer, nowMs);
    this.#context.emit({ kind: 'hangUp', peer, reason: 'banned' });
  }

  #begin(nowMs: number): void {
    assert(nowMs >= this.#nowMs, 'time does not go backwards');
    this.#nowMs = nowMs;
  }

  /** Delivers messages to this node itself, lets blobs act on what changed, and notes the next wake-up. */
  #end(nowMs: number, only: BlobSwarm | undefined): void {
    this.#askForLeases(nowMs);
    this.#deliverToSelf(nowMs);
    this.#context.budget.pump(nowMs);
    this.#deliverToSelf(nowMs);
    if (only !== undefined) only.pump(nowMs);
    else for (const blob of this.#context.pulling) blob.pump(nowMs);
    this.#context.wakeMs = Math.min(this.#context.wakeMs, this.#directory.dueMs, this.#dialSweepMs);
    this.#context.wakeMs = Math.min(this.#context.wakeMs, this.#context.budget.dueMs);
  }

  #askForLeases(nowMs: number): void {
    for (const blob of this.#context.pulling) {
      if (!blob.origin.wantsLeases(nowMs)) continue;
      blob.directories.announceSoon(nowMs);
      if (blob.directories.dueMs <= nowMs) blob.directories.handleTimeout(nowMs);
      blob.plan();
    }
  }

  #deliverToSelf(nowMs: number): void {
    const { toSelf, self } = this.#context;
    for (let count = 0; toSelf.length > 0; count++) {
      assert(count < TO_SELF_MAX, 'a node does not talk to itself for ever');
      const message = toSelf.shift() as PeerMessage;
      this.#router.dispatch(self, message, nowMs);
    }
  }
}

/** Messages to itself per input: an announce and its answer for each blob, and some. */
const TO_SELF_MAX = 100_000;
