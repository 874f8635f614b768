import type { RawDocument } from '../base/descriptor.ts';
import type { Digest } from '../base/digest.ts';
import type { Origin } from '../registry/origin.ts';
import type { Reference } from '../registry/reference.ts';

/** Manifests have a few kilobytes; what does not fit is asked for again, bytes. */
const MEMORY_BYTES_MAX = 8 * 1024 * 1024;

/**
 * Manifests that were resolved before, by repository. With one at hand a pull asks the registry by HEAD, which is the same
 * check of the caller's rights but does not count as a pull where pulls are counted.
 */
export class ManifestMemory {
  /** Least recently used first. */
  readonly #documents = new Map<string, Uint8Array>();
  #sizeBytes = 0;

  /** Looks up manifests of the reference's repository; undefined when there is none, so that no HEAD is wasted. */
  readerOf(reference: Reference): ((digest: Digest) => Promise<Uint8Array | undefined>) | undefined {
    const prefix = keyOf(reference, '');
    if (![...this.#documents.keys()].some((key) => key.startsWith(prefix))) return undefined;
    return async (digest) => this.#documents.get(keyOf(reference, digest));
  }

  /** The same origin, whose resolved manifests are remembered. */
  watch(origin: Origin, reference: Reference): Origin {
    return {
      get hasCredentials() {
        return origin.hasCredentials;
      },
      get isAnonymous() {
        return origin.isAnonymous;
      },
      resolve: async (signal) => this.#remember(reference, await origin.resolve(signal)),
      document: (kind, descriptor, signal) => origin.document(kind, descriptor, signal),
      readBlob: (digest, sizeBytes, range, signal) => origin.readBlob(digest, sizeBytes, range, signal),
      close: () => origin.close(),
    };
  }

  #remember(reference: Reference, document: RawDocument): RawDocument {
    const key = keyOf(reference, document.descriptor.digest);
    this.#forget(key);
    this.#documents.set(key, document.bytes);
    this.#sizeBytes += document.bytes.length;
    for (const oldest of this.#documents.keys()) {
      if (this.#sizeBytes <= MEMORY_BYTES_MAX) break;
      this.#forget(oldest);
    }
    return document;
  }

  #forget(key: string): void {
    this.#sizeBytes -= this.#documents.get(key)?.length ?? 0;
    this.#documents.delete(key);
  }
}

function keyOf(reference: Reference, digest: string): string {
  return `${reference.host}/${reference.repository}@${digest}`;
}
