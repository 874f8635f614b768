import { createHmac, randomBytes } from 'node:crypto';
import type { RawDocument } from '../base/descriptor.ts';
import { ErrorCode, isShoalError } from '../base/errors.ts';
import type { Credentials, Origin } from '../registry/origin.ts';
import type { Reference } from '../registry/reference.ts';

/** Manifests and configs have a few kilobytes: some thousand images. What does not fit is denied in an outage. */
const MEMORY_BYTES_MAX = 16 * 1024 * 1024;
/** What an entry takes besides its bytes. */
const ENTRY_BYTES = 512;

export interface OutageGraceOptions {
  /** How long ago the same caller must have passed the check, ms. */
  readonly graceMs: number;
  /** Also for tags, which may have moved since. */
  readonly withTags: boolean;
  readonly nowMs: () => number;
  /** Told of each pull that is let through. */
  readonly onGrace: (reference: Reference, passedMsAgo: number) => void;
}

interface Entry {
  readonly document: RawDocument;
  readonly atMs: number;
}

/**
 * Lets pulls go on while their registry does not answer: of images that this node was given by that registry a short while
 * ago with the very same credentials. Kept in memory only; a restart forgets it. Credentials are kept as a keyed hash.
 */
export class OutageGrace {
  readonly #options: OutageGraceOptions;
  readonly #hashKey = randomBytes(32);
  /** By caller, repository and digest or tag; least recently passed first. */
  readonly #entries = new Map<string, Entry>();
  #sizeBytes = 0;

  constructor(options: OutageGraceOptions) {
    this.#options = options;
  }

  /** The same registry for the same caller; while it does not answer, what it answered before counts. */
  watch(origin: Origin, reference: Reference, credentials: Credentials | undefined): Origin {
    const place = `${this.#callerOf(credentials)} ${reference.host}/${reference.repository}`;
    let isOutage = false;
    return {
      get hasCredentials() {
        return origin.hasCredentials;
      },
      // What was given to everybody an hour ago may be private now: nobody has asked.
      get isAnonymous() {
        return origin.isAnonymous && !isOutage;
      },
      resolve: async (signal) => {
        try {
          return this.#passed(place, reference, await origin.resolve(signal));
        } catch (error) {
          const held = isUnanswered(error) ? this.#heldFor(place, reference) : undefined;
          if (held === undefined) throw error;
          isOutage = true;
          return held;
        }
      },
      document: async (kind, descriptor, signal) => {
        const name = `${place}@${descriptor.digest}`;
        const held = isOutage ? this.#entries.get(name)?.document : undefined;
        const document = held ?? (await origin.document(kind, descriptor, signal));
        if (!isOutage) this.#remember(name, document);
        return document;
      },
      readBlob: (digest, sizeBytes, range, signal) => origin.readBlob(digest, sizeBytes, range, signal),
      close: () => origin.close(),
    };
  }

  #passed(place: string, { tag }: Reference, document: RawDocument): RawDocument {
    this.#remember(`${place}@${document.descriptor.digest}`, document);
    if (tag !== undefined && this.#options.withTags) this.#remember(`${place}:${tag}`, document);
    return document;
  }

  #heldFor(place: string, reference: Reference): RawDocument | undefined {
    const { graceMs, nowMs, onGrace } = this.#options;
    const { digest, tag } = reference;
    const entry = this.#entries.get(digest === undefined ? `${place}:${tag}` : `${place}@${digest}`);
    const passedMsAgo = entry === undefined ? Number.POSITIVE_INFINITY : nowMs() - entry.atMs;
    if (entry === undefined || passedMsAgo > graceMs) return undefined;
    onGrace(reference, passedMsAgo);
    return entry.document;
  }

  #remember(name: string, document: RawDocument): void {
    this.#forget(name);
    this.#entries.set(name, { document, atMs: this.#options.nowMs() });
    this.#sizeBytes += document.bytes.length + ENTRY_BYTES;
    for (const oldest of this.#entries.keys()) {
      if (this.#sizeBytes <= MEMORY_BYTES_MAX) break;
      this.#forget(oldest);
    }
  }

  #forget(name: string): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    this.#entries.delete(name);
    this.#sizeBytes -= entry.document.bytes.length + ENTRY_BYTES;
  }

  #callerOf(credentials: Credentials | undefined): string {
    const { username, password, auth, serverAddress, identityToken, registryToken } = credentials ?? {};
    const all = JSON.stringify([username, password, auth, serverAddress, identityToken, registryToken]);
    return createHmac('sha256', this.#hashKey).update(all).digest('hex');
  }
}

/** Neither a refusal nor a 404: nobody said anything, or a server that is out of order did. */
function isUnanswered(error: unknown): boolean {
  return isShoalError(error, ErrorCode.RegistryUnavailable);
}
