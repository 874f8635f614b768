import { randomBytes, randomInt } from 'node:crypto';
import type { Readable } from 'node:stream';
import type { BlobKey } from '../base/blob-key.ts';
import { cancelled, isShoalError } from '../base/errors.ts';
import { type CachedBlob, ChunkState } from '../cache/cached-blob.ts';
import type { DiskCache } from '../cache/disk-cache.ts';
import type { PeerId, PeerMessage } from '../swarm/messages.ts';
import type { BlobFetch } from './blob-fetch.ts';
import { choosePieces, type Piece, pieceAt } from './blob-pieces.ts';
import { NONCE_BYTES } from './frame.ts';
import type { PeerLinks } from './peer-links.ts';
import { isSameProof, proofByPieces, type ReadRight, type Session } from './read-right.ts';
import { ReadRights } from './read-rights.ts';
import type { RightMessage } from './right-messages.ts';
import type { RightsFile } from './rights-file.ts';
import type { TransferCounters } from './transfer-counters.ts';
import { Turnstile } from './turnstile.ts';

/** Pieces of one challenge. Whoever has a tenth of a blob and may not have the rest passes one in a thousand. */
const PIECES = 3;
/** Challenges that are answered or checked at once: each reads three pieces, at the registry or on the disk. */
const EXCHANGES_MAX = 4;
/** An answer that takes longer comes too late. */
const ANSWER_TIMEOUT_MS = 10_000;
/** When a peer without proof should ask again: a challenge takes about this long. */
const UNPROVEN_PAUSE_MS = 200;

export interface RightExchangeOptions {
  readonly cache: DiskCache;
  readonly links: PeerLinks;
  readonly counters: TransferCounters;
  readonly file: RightsFile | undefined;
  /** The fetch of a blob that is under way. */
  readonly fetchOf: (key: BlobKey) => BlobFetch | undefined;
}

/** The I/O around ReadRights: sends proofs before questions, and lets only questions through that have one. */
export class RightExchange {
  readonly #options: RightExchangeOptions;
  readonly #rights = new ReadRights();
  readonly #turns = new Turnstile(EXCHANGES_MAX);
  readonly #closing = new AbortController();

  constructor(options: RightExchangeOptions) {
    this.#options = options;
    for (const kept of options.file?.loaded ?? [])
      if (options.cache.get(kept.key) !== undefined) this.#rights.restore(kept);
  }

  learn(key: BlobKey, right: ReadRight): void {
    if (this.#rights.learn(key, right, Date.now())) this.#save();
  }

  forget(key: BlobKey): void {
    if (this.#rights.forget(key)) this.#save();
  }

  handleDisconnected(peer: PeerId): void {
    this.#rights.handleDisconnected(peer);
  }

  /** To be called with each message that is about to be sent: a proof goes ahead of what needs one. */
  beforeSend(peer: PeerId, message: PeerMessage): void {
    if (message.kind !== 'follow' && message.kind !== 'request') return;
    const { key } = message;
    this.#options.links.sendRight(peer, (session) => {
      const proofs = this.#rights.proofsFor(key, session, Date.now());
      return proofs && { kind: 'prove', key, proofs };
    });
  }

  /** Whether the core may see the message. A request without a proof is answered here. */
  admits(peer: PeerId, message: PeerMessage): boolean {
    if (message.kind !== 'follow' && message.kind !== 'request') return true;
    if (this.#rights.mayServe(peer, message.key, Date.now())) return true;
    this.#challenge(peer, message.key);
    if (message.kind === 'follow') return true;
    const { requestId } = message;
    this.#options.counters.unprovenRequests += 1;
    this.#options.links.send(peer, { kind: 'busy', requestId, retryAfterMs: UNPROVEN_PAUSE_MS });
    return false;
  }

  /** `session` is the connection that the message came over, with the peer as the asker. */
  handleMessage(peer: PeerId, message: RightMessage, session: Session): void {
    if (message.kind === 'prove') this.#rights.handleProofs(message.proofs, message.key, session, Date.now());
    else if (message.kind === 'challenge') void this.#answer(message, peer);
    else void this.#check(message, session);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#options.file?.close();
  }

  #challenge(peer: PeerId, key: BlobKey): void {
    const blob = this.#options.cache.get(key);
    if (blob === undefined || !this.#rights.mayChallenge(peer, key, Date.now())) return;
    const pieces = choosePieces({
      count: PIECES,
      blobBytes: blob.sizeBytes,
      chunkBytes: blob.chunkSizeBytes,
      isHeld: (chunk) => blob.stateOf(chunk) !== ChunkState.Missing,
      randomBelow: (limit) => randomInt(limit),
    });
    if (pieces.length === 0) return;
    const challenge = { kind: 'challenge', key, nonce: randomBytes(NONCE_BYTES), pieces } as const;
    this.#rights.challenged(peer, challenge, Date.now());
    this.#options.links.sendRight(peer, () => challenge);
  }

  /** Asker: reads the pieces, from what it has itself or at the registry, and shows that it could. */
  async #answer(message: Extract<RightMessage, { kind: 'challenge' }>, holder: PeerId): Promise<void> {
    const { key, nonce } = message;
    const fetch = this.#options.fetchOf(key);
    if (fetch === undefined || !this.#rights.mayAnswer(holder, key, Date.now())) return;
    const pieces = message.pieces.map((index) => pieceAt(index, fetch.sizeBytes));
    if (!pieces.every((piece) => piece !== undefined)) return;
    const read = (signal: AbortSignal) =>
      Promise.all(pieces.map((piece) => this.#readPiece(fetch, piece, signal)));
    const bytes = await this.#inTurn(read, fetch.signal);
    if (bytes === undefined) return;
    this.#options.links.sendRight(holder, (session) => ({
      kind: 'answer',
      key,
      nonce,
      proof: proofByPieces(bytes, nonce, key, session),
    }));
  }

  /** Holder: reads the pieces that it chose, and lets the peer in if it has shown that it knows them. */
  async #check(message: Extract<RightMessage, { kind: 'answer' }>, session: Session): Promise<void> {
    const { key, nonce } = message;
    const { cache, links, counters } = this.#options;
    const challenge = this.#rights.takeChallenge(session.asker, key, nonce, Date.now());
    const blob = cache.get(key);
    if (challenge === undefined || blob === undefined) return;
    const pieces = challenge.pieces.map((index) => pieceAt(index, blob.sizeBytes));
    if (!pieces.every((piece) => piece !== undefined)) return;
    const bytes = await this.#inTurn(() => readOwnPieces(blob, pieces), this.#closing.signal);
    const isRight =
      bytes !== undefined && isSameProof(proofByPieces(bytes, nonce, key, session), message.proof);
    if (!isRight) counters.wrongProofs += 1;
    else if (links.isConnected(session.asker)) this.#rights.grant(session.asker, key, Date.now());
  }

  async #readPiece(fetch: BlobFetch, piece: Piece, signal: AbortSignal): Promise<Buffer> {
    const { blob } = fetch;
    const { counters } = this.#options;
    const chunk = Math.floor(piece.offsetBytes / blob.chunkSizeBytes);
    if (blob.stateOf(chunk) === ChunkState.Verified) return readOwnPiece(blob, piece);
    const reader = fetch.pickReader(new Set());
    if (reader === undefined) throw cancelled(fetch.signal, 'read a piece');
    counters.originReads += 1;
    counters.originBytes += piece.lengthBytes;
    const until = AbortSignal.any([signal, reader.releasedSignal]);
    return collect(await reader.readOrigin(piece, until), piece.lengthBytes, until);
  }

  /** Undefined when it could not be done: whoever waits for it asks again. */
  async #inTurn<T>(work: (signal: AbortSignal) => Promise<T>, until: AbortSignal): Promise<T | undefined> {
    const signal = AbortSignal.any([until, this.#closing.signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]);
    let leave: (() => void) | undefined;
    try {
      leave = await this.#turns.enter(signal);
      return await work(signal);
    } catch (error) {
      if (!isShoalError(error)) throw error;
      return undefined;
    } finally {
      leave?.();
    }
  }

  #save(): void {
    this.#options.file?.save(() => this.#rights.kept());
  }
}

async function readOwnPieces(blob: CachedBlob, pieces: readonly Piece[]): Promise<Buffer[]> {
  const bytes: Buffer[] = [];
  for (const piece of pieces) bytes.push(await readOwnPiece(blob, piece));
  return bytes;
}

/** Whole chunks are read, for only those are known to be right. */
async function readOwnPiece(blob: CachedBlob, { offsetBytes, lengthBytes }: Piece): Promise<Buffer> {
  const chunk = Math.floor(offsetBytes / blob.chunkSizeBytes);
  const bytes = Buffer.allocUnsafeSlow(blob.chunkBytes(chunk));
  await blob.readChunk(chunk, bytes);
  const start = offsetBytes - chunk * blob.chunkSizeBytes;
  return bytes.subarray(start, start + lengthBytes);
}

/** `readOrigin` gives exactly as many bytes as were asked for, or fails. */
async function collect(stream: Readable, lengthBytes: number, signal: AbortSignal): Promise<Buffer> {
  const parts: Buffer[] = [];
  const stop = (): unknown => stream.destroy(cancelled(signal, 'read a piece'));
  signal.addEventListener('abort', stop, { once: true });
  try {
    for await (const part of stream as AsyncIterable<Buffer>) parts.push(part);
  } finally {
    signal.removeEventListener('abort', stop);
  }
  const bytes = Buffer.concat(parts);
  if (bytes.length !== lengthBytes) throw cancelled(signal, 'read a piece');
  return bytes;
}
