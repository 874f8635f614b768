import { constants } from 'node:fs';
import { access, open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Digest, hexOf } from '../base/digest.ts';
import { ErrorCode, isShoalError, nodeErrorCode, ShoalError } from '../base/errors.ts';
import { api } from './api.ts';
import { GrpcCode, isGrpcCode, unless } from './call-error.ts';
import type { CallOptions, ContainerdClient } from './containerd-client.ts';
import { ContentWriter } from './content-writer.ts';
import { placeInIngest } from './ingest-file.ts';
import { type ContentInfo, type Labels, WriteAction, type WriteResponse } from './messages.ts';

/** The reference stays locked for some milliseconds after a stream has ended. */
const LOCK_RETRY_FIRST_MS = 2;
const LOCK_RETRY_MAX_MS = 100;
const LOCK_WAIT_MAX_MS = 10_000;
/** A writer whose client has died ends within some tens of milliseconds. */
const ABORT_ATTEMPTS_MAX = 5;
const ABORT_RETRY_MS = 50;
/** The size with the best throughput through grpc-js; two on their way keep both sides busy. */
const WRITE_BYTES = 1024 * 1024;
const WRITES_IN_FLIGHT_MAX = 2;

/** A blob that is to be stored under a lease. */
export interface BlobRequest {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Unique to this import: it names the unfinished blob in containerd. */
  readonly ref: string;
  readonly lease: string;
  /** Gives the labels to set, from those that the blob already has (none when it is new). */
  readonly labels: (existing: Labels) => Labels;
}

export type BlobRoute = 'present' | 'linked' | 'copied' | 'sent';

/** Everything of a file is in containerd's ingest; one more message makes it a blob. */
export interface StagedBlob {
  /** Like `importFile` from here on. To be called at most once, and before the signal that it was staged with is aborted. */
  commit(): Promise<BlobRoute>;
}

/** The ingest's stream is open, and containerd has all bytes. */
interface Staged {
  readonly writer: ContentWriter;
  readonly route: BlobRoute;
}

/** containerd's content store in one namespace. */
export class BlobStore {
  readonly #client: ContainerdClient;
  readonly #contentRoot: string | undefined;

  /** `contentRoot`: the store's directory, which containerd makes with the first blob; this process may not see it. */
  constructor(client: ContainerdClient, contentRoot: string | undefined) {
    this.#client = client;
    this.#contentRoot = contentRoot;
  }

  /** Where containerd keeps a committed blob; undefined when this process cannot read it there. */
  async path(digest: Digest): Promise<string | undefined> {
    if (this.#contentRoot === undefined) return undefined;
    const path = join(this.#contentRoot, 'blobs', 'sha256', hexOf(digest));
    return await access(path, constants.R_OK).then(
      () => path,
      () => undefined,
    );
  }

  async info(digest: Digest, signal: AbortSignal): Promise<ContentInfo | undefined> {
    const call = this.#client.call(
      api.content.info,
      { digest },
      { signal, doing: `look up blob "${digest}"` },
    );
    return (await unless([GrpcCode.NotFound], call))?.info;
  }

  /**
   * Stores a verified file. Without sending it where the file systems allow: the file is put into containerd's ingest, and containerd
   * hashes and commits it there. It then is containerd's blob, mode 0444: nobody may write to it again.
   */
  async importFile(blob: BlobRequest, path: string, signal: AbortSignal): Promise<BlobRoute> {
    const staged = await this.stageFile(blob, path, signal);
    return await staged.commit();
  }

  /** The first part of `importFile`, which takes nearly all of its time. What is never committed is left to `abort`. */
  async stageFile(blob: BlobRequest, path: string, signal: AbortSignal): Promise<StagedBlob> {
    try {
      const { writer, route } = await this.#stageFile(blob, path, this.#options(blob, signal));
      return { commit: () => this.#commit(blob, writer, route, signal) };
    } catch (error) {
      if (!isGrpcCode(error, GrpcCode.AlreadyExists)) throw error;
      return { commit: () => this.#adoptInstead(blob, signal) };
    }
  }

  async addLabels(digest: Digest, labels: Labels, signal: AbortSignal): Promise<void> {
    const request = {
      info: { digest, labels },
      updateMask: { paths: Object.keys(labels).map((key) => `labels.${key}`) },
    };
    await this.#client.call(api.content.update, request, { signal, doing: `label blob "${digest}"` });
  }

  /** Stores a small blob in one message. */
  async importBytes(blob: BlobRequest, data: Uint8Array, signal: AbortSignal): Promise<BlobRoute> {
    const writer = await ContentWriter.open(this.#client, this.#options(blob, signal));
    try {
      await writer.send({ ...commitMessage(blob), offset: 0, data });
      return 'sent';
    } catch (error) {
      if (!isGrpcCode(error, GrpcCode.AlreadyExists)) throw error;
      return await this.#adopt(blob, signal);
    } finally {
      await writer.close();
    }
  }

  /** Drops an unfinished blob; one that is gone is fine. */
  async abort(ref: string, signal: AbortSignal): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const call = this.#client.call(api.content.abort, { ref }, { signal, doing: `abort ingest "${ref}"` });
      try {
        await unless([GrpcCode.NotFound], call);
        return;
      } catch (error) {
        // containerd is still ending the writer, which puts files into the directory that it removes.
        if (attempt === ABORT_ATTEMPTS_MAX) throw error;
      }
      await sleep(attempt * ABORT_RETRY_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  async ingests(signal: AbortSignal): Promise<string[]> {
    const options = { signal, doing: 'list ingests' };
    return (await this.#client.call(api.content.listStatuses, {}, options)).statuses.map(({ ref }) => ref);
  }

  async #stageFile(blob: BlobRequest, path: string, options: CallOptions): Promise<Staged> {
    const opened = await this.#open(blob, options);
    // The bytes are in another namespace: containerd takes them from there.
    if (opened.answer.offset === blob.sizeBytes) return { writer: opened.writer, route: 'present' };
    await opened.writer.close();
    const how = this.#contentRoot && (await placeInIngest(this.#contentRoot, blob.ref, path));
    if (!how) return await this.#send(blob, path, options);
    const reopened = await this.#open(blob, options);
    if (reopened.answer.offset === blob.sizeBytes) return { writer: reopened.writer, route: how };
    // Something else than our file is in containerd's ingest. Writing there could write into the file that we linked.
    await reopened.writer.close();
    await this.abort(blob.ref, options.signal);
    return await this.#send(blob, path, options);
  }

  /** Opens the ingest, waiting while an earlier stream still holds its lock. */
  async #open(
    blob: BlobRequest,
    options: CallOptions,
  ): Promise<{ writer: ContentWriter; answer: WriteResponse }> {
    const deadlineMs = performance.now() + LOCK_WAIT_MAX_MS;
    for (let waitMs = LOCK_RETRY_FIRST_MS; ; waitMs = Math.min(waitMs * 2, LOCK_RETRY_MAX_MS)) {
      const writer = await ContentWriter.open(this.#client, options);
      try {
        const first = {
          action: WriteAction.Stat,
          ref: blob.ref,
          total: blob.sizeBytes,
          expected: blob.digest,
        };
        return { writer, answer: await writer.send(first) };
      } catch (error) {
        await writer.close();
        if (!isLocked(error) || performance.now() > deadlineMs) throw error;
      }
      await sleep(waitMs, undefined, { signal: options.signal }).catch(() => undefined);
    }
  }

  async #commit(
    blob: BlobRequest,
    writer: ContentWriter,
    route: BlobRoute,
    signal: AbortSignal,
  ): Promise<BlobRoute> {
    try {
      await writer.send({ ...commitMessage(blob), offset: blob.sizeBytes });
      return route;
    } catch (error) {
      if (!isGrpcCode(error, GrpcCode.AlreadyExists)) throw error;
    } finally {
      await writer.close();
    }
    return await this.#adoptInstead(blob, signal);
  }

  /** Somebody else was faster, and containerd 1.7 would keep our ingest for a day. */
  async #adoptInstead(blob: BlobRequest, signal: AbortSignal): Promise<BlobRoute> {
    await this.abort(blob.ref, signal);
    return await this.#adopt(blob, signal);
  }

  async #send(blob: BlobRequest, path: string, options: CallOptions): Promise<Staged> {
    const { writer, answer } = await this.#open(blob, options);
    try {
      if (answer.offset !== blob.sizeBytes) await sendFile(blob, path, writer);
      return { writer, route: 'sent' };
    } catch (error) {
      await writer.close();
      throw error;
    }
  }

  /** The blob is there already, and containerd has put it under our lease: only its labels may lack something. */
  async #adopt(blob: BlobRequest, signal: AbortSignal): Promise<'present'> {
    const existing = (await this.info(blob.digest, signal))?.labels ?? {};
    const wanted = blob.labels(existing);
    const changed = Object.entries(wanted).filter(([key, value]) => value !== existing[key]);
    if (changed.length > 0) await this.addLabels(blob.digest, Object.fromEntries(changed), signal);
    return 'present';
  }

  #options(blob: BlobRequest, signal: AbortSignal): CallOptions {
    return { signal, lease: blob.lease, doing: `store blob "${blob.digest}"` };
  }
}

function commitMessage(blob: BlobRequest) {
  return {
    action: WriteAction.Commit,
    ref: blob.ref,
    total: blob.sizeBytes,
    expected: blob.digest,
    labels: blob.labels({}),
  };
}

/** Sends the whole file from its beginning; an offset of 0 makes containerd forget what it had of it. */
async function sendFile(blob: BlobRequest, path: string, writer: ContentWriter): Promise<void> {
  const file = await openSource(path);
  const inFlight: Promise<WriteResponse>[] = [];
  try {
    for (let offset = 0; offset < blob.sizeBytes; ) {
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(WRITE_BYTES), 0, WRITE_BYTES, offset);
      if (bytesRead === 0) throw tooShort(blob, offset);
      const data = buffer.subarray(0, bytesRead);
      inFlight.push(writer.send({ action: WriteAction.Write, ref: blob.ref, offset, data }));
      offset += bytesRead;
      if (inFlight.length >= WRITES_IN_FLIGHT_MAX) await inFlight.shift();
    }
    await Promise.all(inFlight);
  } finally {
    await file.close();
  }
}

async function openSource(path: string) {
  try {
    return await open(path, 'r');
  } catch (error) {
    throw new ShoalError(
      ErrorCode.StoreFailed,
      `Cannot open layer file "${path}": ${nodeErrorCode(error) ?? 'unknown error'}`,
      { cause: error },
    );
  }
}

function tooShort(blob: BlobRequest, offset: number): ShoalError {
  return new ShoalError(
    ErrorCode.SizeMismatch,
    `Cannot store blob "${blob.digest}": its file has ${offset} bytes, ${blob.sizeBytes} wanted`,
  );
}

/** Code 14 says "locked" as well as "not reachable"; only the text tells them apart. */
function isLocked(error: unknown): boolean {
  return isShoalError(error) && isGrpcCode(error, GrpcCode.Unavailable) && /locked/.test(error.message);
}
