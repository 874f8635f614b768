import { createHash } from 'node:crypto';
import type { Compression } from '../base/descriptor.ts';
import { type Digest, digestFromHex } from '../base/digest.ts';
import { ErrorCode, isShoalError, ShoalError } from '../base/errors.ts';
import type { JobControl } from './control.ts';
import {
  createGzipInflater,
  createPlainInflater,
  createZstdInflater,
  type Inflater,
  type ZstdBackend,
} from './inflate.ts';
import { digestMismatch } from './layer-digest.ts';
import { LayerSource } from './layer-source.ts';
import type { InflateStep } from './node-codec.ts';
import { OutputQueue } from './output-queue.ts';
import { TarDecoder } from './tar-decoder.ts';
import { TreeWriter } from './tree-writer.ts';
import type { UnpackJob, UnpackResult } from './unpack-pool.ts';

/** Unpacks one layer on the calling thread, which it blocks: run it in a worker. @throws see `UnpackRun.result` */
export async function unpackLayer(
  job: UnpackJob,
  control: JobControl,
  zstd?: ZstdBackend,
): Promise<UnpackResult> {
  const { sourcePath: path, sizeBytes, leavesDigest = false } = job;
  const source = new LayerSource({ path, sizeBytes, control, hashes: !leavesDigest });
  const pipeline = new LayerPipeline(job, control, source, zstd);
  try {
    const result = await pipeline.run();
    // Not after a failure: the pool may still be inflating.
    source.recycle();
    return result;
  } finally {
    pipeline.close();
    source.close();
  }
}

class LayerPipeline {
  readonly #job: UnpackJob;
  readonly #control: JobControl;
  readonly #source: LayerSource;
  readonly #zstd: ZstdBackend | undefined;
  readonly #tarHash = createHash('sha256');
  readonly #writer: TreeWriter | undefined;
  readonly #decoder: TarDecoder | undefined;
  readonly #outputs = new OutputQueue((tar) => this.#consume(tar));
  #inflater: Inflater | undefined;
  #tarBytes = 0;

  constructor(job: UnpackJob, control: JobControl, source: LayerSource, zstd: ZstdBackend | undefined) {
    this.#job = job;
    this.#control = control;
    this.#source = source;
    this.#zstd = zstd;
    if (job.mode === 'verify') return;
    const checkpoint = (): void => this.#checkpoint();
    this.#writer = new TreeWriter({ ...job, root: job.targetDirectory, mode: job.mode, checkpoint });
    this.#decoder = new TarDecoder(this.#writer);
  }

  async run(): Promise<UnpackResult> {
    try {
      await this.#inflateAll();
      this.#decoder?.finish();
      this.#writer?.finish();
    } catch (error) {
      await this.#explain(error);
    }
    this.#source.checkSize();
    if (this.#job.leavesDigest !== true) this.#checkLayerDigest();
    return {
      diffId: this.#checkedDiffId(),
      unpackedBytes: this.#writer?.unpackedBytes ?? this.#tarBytes,
      tarBytes: this.#tarBytes,
      entries: this.#writer?.entries ?? 0,
      impliedDirectories: this.#writer?.impliedDirectories() ?? [],
    };
  }

  close(): void {
    this.#writer?.close();
    this.#inflater?.close();
  }

  async #inflateAll(): Promise<void> {
    for (let input = this.#nextInput(); input !== undefined; input = this.#nextInput()) {
      this.#inflater ??= this.#inflaterFor(input);
      for (let rest = input, isFull = true; rest.length > 0 || isFull; ) {
        const spare = this.#control.hasSpareCore;
        const room = spare ? this.#outputs.room : this.#outputs.roomAlone();
        const step = spare
          ? await this.#stepBeside(this.#inflater, rest, room)
          : this.#inflater.step(rest, room);
        this.#outputs.add(step.producedBytes);
        rest = rest.subarray(step.consumedBytes);
        isFull = step.producedBytes === room.length;
      }
    }
    this.#outputs.drain();
    this.#inflater?.finish();
    this.#outputs.recycle();
  }

  /** While the pool inflates, what it inflated before is hashed and written here, and the next input is read. */
  async #stepBeside(inflater: Inflater, input: Buffer, room: Buffer): Promise<InflateStep> {
    const step = inflater.stepInPool(input, room);
    if (!(step instanceof Promise)) return step;
    this.#source.readAhead();
    return await this.#outputs.drainDuring(step);
  }

  #nextInput(): Buffer | undefined {
    this.#checkpoint();
    const input = this.#source.next();
    this.#checkpoint();
    return input;
  }

  #consume(tar: Buffer): void {
    this.#checkpoint();
    this.#tarBytes += tar.length;
    if (this.#tarBytes > this.#job.unpackedBytesMax)
      throw new ShoalError(
        ErrorCode.LimitExceeded,
        `Cannot unpack layer: it inflates to more than ${this.#job.unpackedBytesMax} bytes`,
      );
    this.#tarHash.update(tar);
    this.#decoder?.feed(tar);
  }

  #checkpoint(): void {
    if (this.#control.isCancelled)
      throw new ShoalError(ErrorCode.Cancelled, 'Cannot unpack layer: the caller gave up');
  }

  /** containerd looks at the first bytes, too, and takes what is neither gzip nor zstd for a plain tar. */
  #inflaterFor(input: Buffer): Inflater {
    const compression = this.#job.compression === 'none' ? 'none' : compressionOf(input);
    if (compression === 'gzip') return createGzipInflater();
    if (compression === 'none') return createPlainInflater();
    // Only Node's own zstd can leave the worker; where it would not, zstd-napi is as good.
    return createZstdInflater(this.#zstd ?? (this.#control.hasSpareCore ? 'node' : undefined));
  }

  /**
   * A layer that does not decode may be a layer that was damaged on its way: that is decided by its digest, so the rest
   * is read, too, before anything is said about its content.
   */
  async #explain(error: unknown): Promise<never> {
    const isContent = isShoalError(
      error,
      ErrorCode.UnpackInvalid,
      ErrorCode.UnpackUnsafe,
      ErrorCode.LimitExceeded,
    );
    if (!isContent) throw error;
    while (this.#nextInput() !== undefined);
    this.#source.checkSize();
    this.#checkLayerDigest();
    throw error;
  }

  #checkedDiffId(): Digest {
    const found = digestFromHex(this.#tarHash.digest('hex'));
    const wanted = this.#job.diffId;
    if (wanted !== undefined && found !== wanted) throw digestMismatch('diff', found, wanted);
    return found;
  }

  #checkLayerDigest(): void {
    const found = this.#source.digest();
    if (found !== this.#job.digest) throw digestMismatch('layer', found, this.#job.digest);
  }
}

/** By the first bytes (RFC 1952; RFC 8878, frames and skippable frames). */
export function compressionOf(start: Buffer): Compression {
  if (start[0] === 0x1f && start[1] === 0x8b && start[2] === 0x08) return 'gzip';
  if (start.length < 4) return 'none';
  const magic = start.readUInt32LE(0);
  return magic === 0xfd2fb528 || (magic & 0xfffffff0) >>> 0 === 0x184d2a50 ? 'zstd' : 'none';
}
