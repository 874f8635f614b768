import { blobKeyId } from '../base/blob-key.ts';
import type { BlobSwarm } from './blob-swarm.ts';
import type { Directory } from './directory.ts';
import type { PeerId, PeerMessage } from './messages.ts';
import type { SwarmContext } from './swarm-context.ts';

/** Who asks for a blob that this node does not have should not ask again soon, ms. */
const UNKNOWN_PAUSE_MS = 10_000;

/** Brings each message to the part of the node that it is for: the directory, a blob, or the upload slots. */
export class MessageRouter {
  readonly #context: SwarmContext;
  readonly #directory: Directory;
  readonly #blobs: ReadonlyMap<string, BlobSwarm>;

  constructor(context: SwarmContext, directory: Directory, blobs: ReadonlyMap<string, BlobSwarm>) {
    this.#context = context;
    this.#directory = directory;
    this.#blobs = blobs;
  }

  /** Returns the blob whose requests may go on, if it is only one. */
  dispatch(peer: PeerId, message: PeerMessage, nowMs: number): BlobSwarm | undefined {
    switch (message.kind) {
      case 'announce':
        this.#directory.handleAnnounce(peer, message, nowMs);
        return undefined;
      case 'publish':
        this.#directory.handlePublish(peer, message, nowMs);
        return undefined;
      case 'returnLease':
        this.#directory.handleReturn(peer, message, nowMs);
        return undefined;
      case 'request':
        this.#serve(peer, message, nowMs);
        return undefined;
      case 'cancel':
        if (this.#context.uploads.has(peer, message.requestId)) {
          this.#context.emit({ kind: 'cancelServe', peer, requestId: message.requestId });
        }
        return undefined;
      case 'busy':
      case 'gone':
        return this.#handleRefusal(peer, message, nowMs);
      case 'askBudget':
      case 'grantBudget':
        this.#context.budget.handleMessage(peer, message, nowMs);
        return undefined;
      default:
        return this.#dispatchToBlob(peer, message, nowMs);
    }
  }

  #dispatchToBlob(
    peer: PeerId,
    message: Extract<
      PeerMessage,
      { kind: 'directory' | 'depart' | 'follow' | 'refuse' | 'bitmap' | 'have' | 'unfollow' }
    >,
    nowMs: number,
  ): BlobSwarm | undefined {
    const blob = this.#blobs.get(blobKeyId(message.key));
    if (message.kind === 'depart') this.#directory.handleDepart(peer, message.key, nowMs);
    if (blob === undefined) {
      if (message.kind === 'follow')
        this.#context.send(peer, { kind: 'refuse', key: message.key, retryAfterMs: UNKNOWN_PAUSE_MS });
      return undefined;
    }
    switch (message.kind) {
      case 'directory':
        blob.handleDirectory(peer, message, nowMs);
        break;
      case 'depart':
        blob.handleDepart(peer);
        break;
      case 'follow':
        blob.handleFollow(peer, message, nowMs);
        break;
      case 'refuse':
        blob.handleRefuse(peer, message, nowMs);
        break;
      case 'bitmap':
        blob.handleBitmap(peer, message, nowMs);
        break;
      case 'have':
        blob.handleHave(peer, message, nowMs);
        break;
      case 'unfollow':
        blob.followers.delete(peer);
        break;
      default:
        message satisfies never;
    }
    return blob;
  }

  #serve(peer: PeerId, message: Extract<PeerMessage, { kind: 'request' }>, nowMs: number): void {
    const { uploads } = this.#context;
    const { key, chunk, requestId } = message;
    if (uploads.has(peer, requestId)) return;
    const blob = this.#blobs.get(blobKeyId(key));
    if (blob === undefined || blob.isOriginOnly || !blob.ledger.held.has(chunk)) {
      this.#context.send(peer, { kind: 'gone', requestId });
      return;
    }
    const retryAfterMs = uploads.take(peer, requestId, nowMs, this.#context.isFar(peer));
    if (retryAfterMs === undefined) this.#context.emit({ kind: 'serve', peer, requestId, key, chunk });
    else this.#context.send(peer, { kind: 'busy', requestId, retryAfterMs });
  }

  #handleRefusal(
    peer: PeerId,
    message: Extract<PeerMessage, { kind: 'busy' | 'gone' }>,
    nowMs: number,
  ): BlobSwarm | undefined {
    const request = this.#context.requests.of(peer, message.requestId);
    const blob = request && this.#blobs.get(request.keyId);
    if (request === undefined || blob === undefined) return undefined;
    if (message.kind === 'busy') {
      blob.stall.handleBusy(this.#context.requests.medianMs, nowMs);
      blob.fetcher.handleBusy(request, message.retryAfterMs, nowMs);
    } else blob.fetcher.handleGone(request);
    return blob;
  }
}
