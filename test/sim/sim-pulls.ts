import type { BlobKey } from '../../shim/base/blob-key.ts';
import { CHUNK_SIZE_BYTES } from '../../shim/swarm/limits.ts';
import { chunkBytesOf, NO_BYTES, type SimBlob, TRUE_BYTES } from './sim-blob.ts';
import type { SimNode, StoredBlob } from './sim-node.ts';
import { emptyStore, forgetAll } from './stored-blobs.ts';
import type { WorldHost } from './world-host.ts';
import type { WorldOptions } from './world-options.ts';

/** What nodes want: starts pulls, checks what is complete, unpacks, and knows who is still at work. */
export class SimPulls {
  readonly #host: WorldHost;
  readonly #options: WorldOptions;
  readonly #blobs: readonly SimBlob[];
  readonly #pending = new Set<SimNode>();

  constructor(host: WorldHost, options: WorldOptions, blobs: readonly SimBlob[]) {
    this.#host = host;
    this.#options = options;
    this.#blobs = blobs;
  }

  get pendingCount(): number {
    return this.#pending.size;
  }

  wants(index: number, blob: SimBlob): boolean {
    const { seeds, idle, unwanted } = this.#options;
    return !seeds?.includes(index) && !idle?.includes(index) && !unwanted?.get(index)?.includes(blob.index);
  }

  /** The node's pull is waited for from now on. */
  expect(node: SimNode): void {
    if (!this.#host.rights.mayRead(node)) return;
    if (this.#blobs.some((blob) => this.wants(node.index, blob))) this.#pending.add(node);
  }

  /** Nobody waits for the node any longer: it crashed, or lies. */
  excuse(node: SimNode): void {
    this.#pending.delete(node);
  }

  start(node: SimNode): void {
    node.isStarted = true;
    for (const blob of this.#blobs) {
      if (this.#options.seeds?.includes(node.index)) this.#seed(node, blob);
      else if (this.wants(node.index, blob)) {
        node.stored.set(blob, emptyStore(blob));
        node.openBlobs.add(blob);
        this.#host.rights.learn(node, blob.key, this.#host.localMs(node));
      }
    }
    this.#joinNext(node);
  }

  /** As in the agent: a place is free again when a layer is down, however long its unpacking takes. */
  #joinNext(node: SimNode): void {
    let left = node.machine.layersAtOnce;
    for (const blob of node.openBlobs) {
      if (left-- <= 0) return;
      const stored = node.stored.get(blob);
      if (stored === undefined || stored.isJoined) continue;
      stored.isJoined = true;
      const { key, sizeBytes } = blob;
      const nowMs = this.#host.localMs(node);
      node.core.join({ key, sizeBytes, held: undefined, hashes: [] }, nowMs);
      if (node.machine.unpacks) node.core.setConsumer(key, { nextByte: 0, setsPace: true }, nowMs);
    }
  }

  handleComplete(node: SimNode, key: BlobKey): void {
    const blob = this.#host.blobOf(key);
    const stored = node.stored.get(blob);
    if (stored === undefined || !node.openBlobs.has(blob)) return;
    if (!node.isLiar && stored.bytes.some((bytes) => bytes !== TRUE_BYTES)) {
      this.#distrust(node, stored);
      return;
    }
    node.openBlobs.delete(blob);
    const { sizeBytes, hashes } = blob;
    if (!node.isLiar) node.core.seed({ key, sizeBytes, hashes }, this.#host.localMs(node));
    this.#joinNext(node);
    this.advance(node, stored);
    if (node.machine.keepsBlobs) this.#hashNext(node, stored);
    this.#endIfDone(node);
  }

  /** Unpacks the next chunk when it is there, a worker is free, and none is being unpacked. */
  advance(node: SimNode, stored: StoredBlob): void {
    const { blob, unpacked, isUnpacking, touchedAt } = stored;
    if (!node.machine.unpacks || isUnpacking || unpacked >= blob.chunkCount) return;
    if (stored.bytes[unpacked] === NO_BYTES || !takeWorker(node, stored)) return;
    stored.isUnpacking = true;
    const pages = { touchedAt, chunk: unpacked };
    const endMs = node.machine.unpack(chunkBytesOf(blob, unpacked), pages, this.#host.nowMs);
    this.#host.push(endMs, { kind: 'unpacked', node: node.index, life: node.life, blob });
  }

  handleHashed(node: SimNode, blob: SimBlob): void {
    const stored = node.stored.get(blob);
    if (stored === undefined) return;
    stored.hashed++;
    this.#hashNext(node, stored);
    this.#endIfDone(node);
  }

  /** containerd reads what it takes over, with a processor of its own. */
  #hashNext(node: SimNode, { blob, hashed, touchedAt }: StoredBlob): void {
    if (hashed >= blob.chunkCount) return;
    const pages = { touchedAt, chunk: hashed };
    const endMs = node.machine.readPages(chunkBytesOf(blob, hashed), pages, this.#host.nowMs);
    this.#host.push(endMs, { kind: 'hashed', node: node.index, life: node.life, blob });
  }

  handleUnpacked(node: SimNode, blob: SimBlob): void {
    const stored = node.stored.get(blob);
    if (stored === undefined) return;
    stored.isUnpacking = false;
    stored.unpacked++;
    const nextByte = Math.min(blob.sizeBytes, stored.unpacked * CHUNK_SIZE_BYTES);
    node.core.setConsumer(blob.key, { nextByte, setsPace: true }, this.#host.localMs(node));
    if (stored.unpacked === blob.chunkCount) this.#freeWorker(node, stored);
    else this.advance(node, stored);
    this.#endIfDone(node);
  }

  #freeWorker(node: SimNode, done: StoredBlob): void {
    done.hasWorker = false;
    for (const stored of node.stored.values()) this.advance(node, stored);
  }

  #seed(node: SimNode, blob: SimBlob): void {
    this.#host.rights.learn(node, blob.key, this.#host.localMs(node));
    const stored = emptyStore(blob);
    stored.bytes.fill(TRUE_BYTES);
    stored.held = blob.chunkCount;
    node.stored.set(blob, stored);
    const { key, sizeBytes, hashes } = blob;
    node.core.seed({ key, sizeBytes, hashes }, this.#host.localMs(node));
  }

  /** The blob's digest is not that of the bytes: what a driver does then. */
  #distrust(node: SimNode, stored: StoredBlob): void {
    forgetAll(stored);
    stored.isDistrusted = true;
    this.#host.trace(6, node.index, stored.blob.index);
    node.core.distrust(stored.blob.key, this.#host.localMs(node));
  }

  #endIfDone(node: SimNode): void {
    if (node.openBlobs.size > 0 || node.doneMs !== undefined) return;
    if (node.machine.unpacks) {
      for (const stored of node.stored.values()) if (stored.unpacked < stored.blob.chunkCount) return;
    }
    if (node.machine.keepsBlobs) {
      for (const stored of node.stored.values()) if (stored.hashed < stored.blob.chunkCount) return;
    }
    node.doneMs = Math.max(this.#host.nowMs, node.machine.idleAtMs);
    this.#pending.delete(node);
    this.#host.trace(5, node.index, 0);
  }
}

/** Layers wait for a worker in the order of the image. */
function takeWorker(node: SimNode, stored: StoredBlob): boolean {
  if (stored.hasWorker) return true;
  let working = 0;
  for (const other of node.stored.values()) if (other.hasWorker) working++;
  stored.hasWorker = working < node.machine.unpackWorkers;
  return stored.hasWorker;
}
