import type { Action } from '../../shim/swarm/messages.ts';
import { chunkBytesOf } from './sim-blob.ts';
import { peerIndex, peerName, type SimNode, type Upload } from './sim-node.ts';
import { passDown, type WorldHost } from './world-host.ts';

export interface SimUplinksOptions {
  readonly downBytesPerSecond: number;
  readonly latencyMs: number;
}

/** Chunks from node to node: uploads share the sender's link fairly. */
export class SimUplinks {
  readonly #host: WorldHost;
  readonly #options: SimUplinksOptions;

  constructor(host: WorldHost, options: SimUplinksOptions) {
    this.#host = host;
    this.#options = options;
  }

  serve(node: SimNode, action: Extract<Action, { kind: 'serve' }>): void {
    const to = peerIndex(action.peer);
    const link = node.links.get(to);
    if (link === undefined) return;
    const { nowMs } = this.#host;
    const { requestId, key, chunk } = action;
    const upload: Upload = { from: node.index, to, link, requestId, key, chunk, sentMs: nowMs };
    node.up.add(upload, this.#bytesOf(upload), nowMs);
    this.#host.push(nowMs + this.#options.latencyMs, { kind: 'chunkBegun', upload });
    this.#plan(node);
  }

  handleLinkEnd(index: number, version: number): void {
    const node = this.#host.nodes[index] as SimNode;
    if (!node.isAlive || node.up.version !== version) return;
    const { downBytesPerSecond: bytesPerSecond, latencyMs } = this.#options;
    for (const upload of node.up.takeEnded(this.#host.nowMs)) {
      const transfer = { sizeBytes: this.#bytesOf(upload), bytesPerSecond, latencyMs };
      passDown(this.#host, upload.to, transfer, { kind: 'chunk', upload });
      node.core.handleServed(peerName(upload.to), upload.requestId, this.#host.nowMs);
    }
    this.#plan(node);
    this.#host.drain(node);
  }

  handleBegun(upload: Upload): void {
    const node = this.#receiverOf(upload);
    if (node === undefined || this.#host.isFrozen(node)) return;
    node.core.handleChunkBegun(peerName(upload.from), upload.requestId, this.#host.nowMs);
  }

  handleArrived(upload: Upload): void {
    const node = this.#receiverOf(upload);
    if (node === undefined) return;
    if (this.#host.isFrozen(node)) {
      this.#host.push(node.frozenUntilMs, { kind: 'chunk', upload });
      return;
    }
    const { nodes, nowMs, counts } = this.#host;
    const { key, chunk, requestId } = upload;
    const peer = peerName(upload.from);
    this.#host.trace(3, upload.to, chunk);
    if (node.core.expectedRequest(peer, requestId) === undefined) counts.wastedBytes += this.#bytesOf(upload);
    else counts.peerBytes += this.#bytesOf(upload);
    const outcome = nodes[upload.from]?.isLiar ? 'wrongHash' : 'stored';
    const elapsedMs = nowMs - upload.sentMs;
    node.core.handleChunk({ key, chunk, requestId, peer, outcome, elapsedMs }, nowMs);
    this.#host.drain(node);
  }

  /** Undefined when the connection is gone, and with it what was on its way. */
  #receiverOf(upload: Upload): SimNode | undefined {
    const node = this.#host.nodes[upload.to] as SimNode;
    return node.isAlive && node.links.get(upload.from) === upload.link ? node : undefined;
  }

  #bytesOf(upload: Upload): number {
    return chunkBytesOf(this.#host.blobOf(upload.key), upload.chunk);
  }

  #plan(node: SimNode): void {
    const endMs = node.up.nextEndMs();
    if (endMs !== undefined)
      this.#host.push(endMs, { kind: 'linkEnd', node: node.index, version: node.up.version });
  }
}
