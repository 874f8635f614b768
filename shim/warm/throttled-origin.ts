import { type Readable, Transform, type TransformCallback } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Origin } from '../registry/origin.ts';

/** The same registry, whose blobs come no faster than `take` lets them through. */
export function throttleOrigin(origin: Origin, take: (bytes: number) => Promise<void> | undefined): Origin {
  return {
    get hasCredentials() {
      return origin.hasCredentials;
    },
    get isAnonymous() {
      return origin.isAnonymous;
    },
    resolve: (signal) => origin.resolve(signal),
    document: (kind, descriptor, signal) => origin.document(kind, descriptor, signal),
    readBlob: async (digest, sizeBytes, range, signal) =>
      throttled(await origin.readBlob(digest, sizeBytes, range, signal), take),
    close: () => origin.close(),
  };
}

function throttled(source: Readable, take: (bytes: number) => Promise<void> | undefined): Readable {
  const gate = new Transform({
    transform(chunk: Buffer, _encoding, callback: TransformCallback) {
      const wait = take(chunk.length);
      if (wait === undefined) callback(null, chunk);
      else void wait.then(() => callback(null, chunk));
    },
  });
  // The failure reaches the reader as that of the returned stream.
  pipeline(source, gate).catch(() => undefined);
  return gate;
}
