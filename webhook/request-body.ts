import type { IncomingMessage } from 'node:http';

/** A request to etcd is at most 1.5 MiB and one to the API server 3 MiB; the review repeats the pod once. */
export const BODY_BYTES_MAX = 4 << 20;
/** Read on without keeping anything up to here, so that the answer is not lost in a broken connection. */
const DISCARDED_BYTES_MAX = 32 << 20;

export type BodyEnd = 'whole' | 'too-large' | 'busy' | 'aborted' | 'timeout';

export interface RequestBody {
  readonly end: BodyEnd;
  /** All of it, or its beginning where `end` is not `whole`. */
  readonly bytes: Buffer;
}

/** Bytes of bodies that are being read at this moment, all requests together. */
export class BodyBudget {
  #heldBytes = 0;
  readonly #bytesMax: number;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  take(bytes: number): boolean {
    if (this.#heldBytes + bytes > this.#bytesMax) return false;
    this.#heldBytes += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#heldBytes -= bytes;
  }
}

/** Reads a body within its limits. Never rejects. */
export function readBody(
  request: IncomingMessage,
  budget: BodyBudget,
  signal: AbortSignal,
): Promise<RequestBody> {
  return new Promise((resolve) => {
    const kept: Buffer[] = [];
    let keptBytes = 0;
    let seenBytes = 0;
    let problem: BodyEnd | undefined;
    const finish = (end: BodyEnd) => {
      request.off('data', onData).off('end', onEnd).off('close', onClose).off('error', onClose);
      signal.removeEventListener('abort', onAbort);
      budget.give(keptBytes);
      resolve({ end, bytes: Buffer.concat(kept) });
    };
    const onData = (chunk: Buffer) => {
      seenBytes += chunk.length;
      if (seenBytes > BODY_BYTES_MAX) problem ??= 'too-large';
      if (problem === undefined && !budget.take(chunk.length)) problem = 'busy';
      if (problem === undefined) {
        kept.push(chunk);
        keptBytes += chunk.length;
      }
      if (seenBytes > DISCARDED_BYTES_MAX) finish('too-large');
    };
    const onEnd = () => finish(problem ?? 'whole');
    const onClose = () => finish('aborted');
    const onAbort = () => finish('timeout');
    request.on('data', onData).on('end', onEnd).on('close', onClose).on('error', onClose);
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
  });
}
