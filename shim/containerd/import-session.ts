import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { abortable } from '../base/abortable.ts';
import { assert } from '../base/assert.ts';
import type { Digest } from '../base/digest.ts';
import { cancelled, throwIfAborted } from '../base/errors.ts';
import { settleAll } from '../base/settle-all.ts';
import type { ImagePlan, ImportSession, LayerPlan, ReadyLayer, WarmSession } from '../store/image-store.ts';
import type { BlobRequest, BlobRoute, BlobStore, StagedBlob } from './blob-store.ts';
import type { ContainerdClient } from './containerd-client.ts';
import { waitForCri } from './cri-image.ts';
import { writeDocuments } from './image-documents.ts';
import { recordNames, writeRecord } from './image-records.ts';
import type { Lease } from './lease.ts';
import type { Labels } from './messages.ts';
import type { PresentLayer } from './present-layers.ts';
import type { SnapshotStore } from './snapshot-store.ts';
import { sourceLabels, UNCOMPRESSED } from './source-labels.ts';
import { TreeCommits } from './tree-commits.ts';

/**
 * A blob of this size or more, bytes, becomes containerd's before its tree is complete, so that nobody else needs to hash it. What is
 * known of it then has to be said in a call more; smaller ones wait for that in containerd's ingest.
 */
const EARLY_BLOB_BYTES_MIN = 16 * 2 ** 20;

/** Taking things back must not wait for a containerd that has gone: what stays is swept later, or expires. */
const ABORT_TIMEOUT_MS = 10_000;

export interface SessionParts {
  readonly client: ContainerdClient;
  readonly blobs: BlobStore;
  readonly lease: Lease;
  readonly plan: ImagePlan;
  readonly present: readonly PresentLayer[];
  /** `shoal-<owner>-<number>`: begins every name that this session uses in containerd. */
  readonly name: string;
  /** Where trees go when Shoal unpacks; absent when containerd does. */
  readonly direct: { readonly snapshots: SnapshotStore; readonly stagingDirectory: string } | undefined;
  /** Whether layer blobs are kept in containerd beside the trees, by us and by containerd itself. */
  readonly keepLayers: boolean;
  /** Told once, when the session's staging directory is of no use any more. */
  readonly onEnd: (session: ContainerdSession) => void;
  /** Told once, at the very end. Not `clean`: something may be left in containerd, which could not be asked to remove it. */
  readonly onReleased: (clean: boolean) => void;
  readonly nowMs: () => number;
}

/** One image on its way into containerd. */
export class ContainerdSession implements ImportSession, WarmSession {
  readonly missing: ReadonlySet<number>;
  readonly treeMode: 'overlay' | 'none';
  readonly finishedBy: 'shoal' | 'containerd';
  readonly #parts: SessionParts;
  readonly #stop = new AbortController();
  readonly #running = new Set<Promise<unknown>>();
  /** Resolves for each layer when its snapshot is committed. */
  readonly #committed: readonly PromiseWithResolvers<void>[];
  readonly #added = new Set<number>();
  /** Absent when containerd unpacks. */
  readonly #trees: TreeCommits | undefined;
  /** Blobs that were given before their layers were known to be right: whether containerd has them. */
  readonly #early = new Map<number, Promise<boolean>>();
  /** Blobs of which containerd has all bytes, and that become its own with their layers. */
  readonly #staged = new Map<number, Promise<StagedBlob | undefined>>();
  #documents: Promise<void> | undefined;
  #state: 'open' | 'finished' | 'held' | 'aborted' = 'open';
  #aborting: Promise<void> | undefined;
  #holding: Promise<void> = Promise.resolve();

  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.treeMode = parts.direct === undefined ? 'none' : 'overlay';
    this.finishedBy = parts.direct === undefined ? 'containerd' : 'shoal';
    this.#trees = parts.direct && new TreeCommits({ ...parts, snapshots: parts.direct.snapshots });
    this.missing = new Set(parts.present.flatMap(({ complete }, index) => (complete ? [] : [index])));
    this.#committed = parts.present.map(({ complete }) => {
      const committed = Promise.withResolvers<void>();
      committed.promise.catch(() => undefined);
      if (complete) committed.resolve();
      return committed;
    });
  }

  /** The stored blob of a layer of which only the tree is missing: no byte of it has to be fetched. */
  blobPath(index: number): string | undefined {
    return this.#parts.present[index]?.blobPath;
  }

  /**
   * Writes config, manifest and index while layers are still on their way: each is a transaction that waits for the disk, and at the
   * end of a pull nothing else would be left to do meanwhile. A failure shows in `finish`.
   */
  beginDocuments(signal: AbortSignal): void {
    this.#documents ??= this.#track(signal, (linked) => writeDocuments(this.#parts, linked));
    this.#documents.catch(() => undefined);
  }

  stagingDirectory(index: number, signal: AbortSignal): Promise<string> {
    return this.#track(signal, async () => {
      const staging = this.#parts.direct?.stagingDirectory;
      assert(staging !== undefined, 'a session without trees is asked for no staging directory');
      this.#prepare(index);
      const path = join(staging, `${index}-${randomUUID()}`);
      await mkdir(path, { recursive: true, mode: 0o700 });
      return path;
    });
  }

  checksBlob(index: number): boolean {
    return this.#bringsBlob(index) && this.#layer(index).descriptor.sizeBytes >= EARLY_BLOB_BYTES_MIN;
  }

  async takeBlob(index: number, blobPath: string, signal: AbortSignal): Promise<boolean> {
    if (!this.#bringsBlob(index)) return false;
    if (!this.checksBlob(index)) {
      await this.#stageBlob(index, blobPath, signal);
      return false;
    }
    const taken = this.#track(signal, (linked) => this.#addBlob(index, blobPath, {}, linked)).catch(() =>
      this.#dropIngest(index),
    );
    this.#early.set(
      index,
      taken.then((route) => route !== undefined),
    );
    const route = await taken;
    // Of a blob that was there already, containerd has not looked at our copy.
    return route !== undefined && route !== 'present';
  }

  addLayer(index: number, layer: ReadyLayer, signal: AbortSignal): Promise<string | undefined> {
    return this.#track(signal, async (linked) => {
      const plan = this.#layer(index);
      const tasks = [this.#addTree(index, layer, linked)];
      if (this.#keepsBlobs()) tasks.push(this.#keepBlob(index, layer.blobPath, linked));
      await settleAll(tasks);
      this.#added.add(index);
      // A blob that containerd drops once it has unpacked it is not one to serve peers from.
      return this.#parts.keepLayers ? await this.#parts.blobs.path(plan.descriptor.digest) : undefined;
    });
  }

  finish(signal: AbortSignal): Promise<Digest> {
    return this.#track(signal, async (linked) => {
      for (const index of this.missing)
        assert(this.#added.has(index), `layer ${index} was added before finish`);
      const { client, plan, lease } = this.#parts;
      this.beginDocuments(signal);
      await this.#documents;
      if (this.finishedBy === 'shoal') {
        for (const names of recordNames(plan))
          await settleAll(names.map((name) => writeRecord(client, name, plan.target, linked)));
        // What the records name needs no lease.
        await Promise.all([waitForCri(client, plan, linked), lease.delete(linked)]);
      }
      this.#state = 'finished';
      this.#end();
      if (this.finishedBy === 'shoal') this.#parts.onReleased(true);
      return plan.config.descriptor.digest;
    });
  }

  /** The lease stays, and with it what was committed; no record names it, so that nobody can start from it. */
  hold(): Promise<void> {
    if (this.#state !== 'open') return this.#holding;
    this.#state = 'held';
    this.#holding = this.#hold();
    return this.#holding;
  }

  /**
   * After `finish` of a session that containerd finishes, it only drops the lease; call it when containerd's own pull is over.
   */
  abort(): Promise<void> {
    this.#aborting ??= this.#abort();
    return this.#aborting;
  }

  get stagingPath(): string | undefined {
    return this.#parts.direct?.stagingDirectory;
  }

  async #hold(): Promise<void> {
    await this.#stopRunning();
    // What cannot be taken back now is under the lease as well, and is tried again with it.
    await this.#takeBack(AbortSignal.timeout(ABORT_TIMEOUT_MS)).catch(() => undefined);
  }

  async #abort(): Promise<void> {
    await this.#holding;
    if (this.#state === 'finished' && this.finishedBy === 'shoal') return;
    const isFinished = this.#state === 'finished';
    if (this.#state === 'open') {
      this.#state = 'aborted';
      await this.#stopRunning();
    }
    const signal = AbortSignal.timeout(ABORT_TIMEOUT_MS);
    const takenBack = isFinished ? Promise.resolve() : this.#takeBack(signal);
    const clean = await takenBack
      .then(() => this.#parts.lease.delete(signal))
      .then(
        () => true,
        () => false,
      );
    this.#parts.onReleased(clean);
  }

  async #stopRunning(): Promise<void> {
    this.#stop.abort(cancelled(AbortSignal.abort(), 'import an image'));
    await Promise.allSettled(this.#running);
    this.#end();
  }

  async #takeBack(signal: AbortSignal): Promise<void> {
    const { blobs, name } = this.#parts;
    const refs = (await blobs.ingests(signal)).filter((ref) => ref.startsWith(`${name}-`));
    for (const ref of refs) await blobs.abort(ref, signal);
    await this.#trees?.remove(this.missing, signal);
  }

  #end(): void {
    this.#parts.onEnd(this);
  }

  /** What containerd knows of a blob's content is said when it is known to be true. */
  async #keepBlob(index: number, blobPath: string, signal: AbortSignal): Promise<void> {
    const labels = { [UNCOMPRESSED]: this.#layer(index).diffId };
    if (await this.#commitStaged(index)) return;
    if (await this.#early.get(index))
      await this.#parts.blobs.addLabels(this.#layer(index).descriptor.digest, labels, signal);
    else await this.#addBlob(index, blobPath, labels, signal);
  }

  async #stageBlob(index: number, path: string, signal: AbortSignal): Promise<void> {
    const before = this.#staged.get(index);
    const labels = { [UNCOMPRESSED]: this.#layer(index).diffId };
    const staged = this.#track(signal, async (linked) => {
      // What an attempt before this one has left is not this file.
      if (before !== undefined) await before.then(() => this.#dropIngest(index));
      return await this.#parts.blobs.stageFile(await this.#blobRequest(index, labels, linked), path, linked);
    }).catch(() => undefined);
    this.#staged.set(index, staged);
    await staged;
  }

  /** False where there is nothing to commit, or containerd was restarted meanwhile: it then finds the bytes in its ingest. */
  async #commitStaged(index: number): Promise<boolean> {
    const staged = await this.#staged.get(index);
    if (staged === undefined) return false;
    return await staged.commit().then(
      () => true,
      () => false,
    );
  }

  /** Bytes that were not right are not to be found by the next attempt. */
  async #dropIngest(index: number): Promise<undefined> {
    const signal = AbortSignal.timeout(ABORT_TIMEOUT_MS);
    await this.#parts.blobs.abort(this.#blobRef(index), signal).catch(() => undefined);
  }

  #blobRef(index: number): string {
    return `${this.#parts.name}-layer-${index}`;
  }

  async #addBlob(index: number, path: string, more: Labels, signal: AbortSignal): Promise<BlobRoute> {
    return await this.#parts.blobs.importFile(await this.#blobRequest(index, more, signal), path, signal);
  }

  async #blobRequest(index: number, more: Labels, signal: AbortSignal): Promise<BlobRequest> {
    const { lease, nowMs } = this.#parts;
    const { digest, sizeBytes } = this.#layer(index).descriptor;
    return {
      digest,
      sizeBytes,
      ref: this.#blobRef(index),
      lease: await lease.current(nowMs(), signal),
      labels: (existing: Labels) => ({
        ...sourceLabels(this.#parts.plan, existing),
        ...more,
      }),
    };
  }

  async #addTree(index: number, layer: ReadyLayer, signal: AbortSignal): Promise<void> {
    const committed = this.#committed[index];
    assert(committed !== undefined, `layer ${index} is one of the image`);
    try {
      await this.#turn(index, signal);
      await this.#trees?.commit(index, layer, signal);
      committed.resolve();
    } catch (error) {
      committed.reject(error);
      throw error;
    }
  }

  /** Two transactions that wait for the disk, done while the tree is still on its way. What fails is told by `commit`. */
  #prepare(index: number): void {
    const prepared = this.#track(this.#stop.signal, async (signal) => {
      await this.#turn(index, signal);
      await this.#trees?.prepare(index, signal);
    });
    prepared.catch(() => undefined);
  }

  /** Waits until the layer below is committed. */
  async #turn(index: number, signal: AbortSignal): Promise<void> {
    const below = this.#committed[index - 1];
    if (below === undefined) return;
    await abortable(below.promise, signal, 'import a layer');
  }

  /** Whether the layer's blob comes to containerd from here. */
  #bringsBlob(index: number): boolean {
    return this.#keepsBlobs() && this.blobPath(index) === undefined;
  }

  #keepsBlobs(): boolean {
    return this.#parts.keepLayers || this.finishedBy === 'containerd';
  }

  #layer(index: number): LayerPlan {
    const layer = this.#parts.plan.layers[index];
    assert(layer !== undefined, `layer ${index} is one of the image`);
    return layer;
  }

  /** Runs one step of the import so that `abort` can stop it and wait for its end. */
  #track<T>(signal: AbortSignal, step: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const linked = AbortSignal.any([signal, this.#stop.signal]);
    const run = async (): Promise<T> => {
      throwIfAborted(linked, 'import an image');
      return await step(linked);
    };
    const running = run();
    this.#running.add(running);
    running.finally(() => this.#running.delete(running)).catch(() => undefined);
    return running;
  }
}
