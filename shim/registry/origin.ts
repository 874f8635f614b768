import type { Readable } from 'node:stream';
import type { Descriptor, RawDocument } from '../base/descriptor.ts';
import type { Digest } from '../base/digest.ts';

/** CRI AuthConfig as received with one PullImage. Lives in memory for that pull only; never logged, never sent to peers. */
export interface Credentials {
  readonly username?: string;
  readonly password?: string;
  /** Base64 of `user:password`. */
  readonly auth?: string;
  /** When it names another host than the reference does, the credentials are not sent. */
  readonly serverAddress?: string;
  /** OAuth2 refresh token. */
  readonly identityToken?: string;
  /** Bearer token to send as it is. */
  readonly registryToken?: string;
}

export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/**
 * One image's registry as one caller may see it: bound to a reference and that caller's credentials.
 * Every request obeys the node's hosts.toml and proxy settings. All failures are ShoalErrors:
 * NotFound, Unauthorized, Forbidden, RateLimited, RegistryUnavailable, RegistryProtocol, DigestMismatch,
 * SizeMismatch, LimitExceeded, Cancelled.
 */
export interface Origin {
  /** Whether requests of this origin carry credentials of the caller. */
  readonly hasCredentials: boolean;
  /**
   * Whether everybody may read what this origin gave: no credentials of the caller went with any request, and no headers
   * or client certificates of the node's registry settings.
   */
  readonly isAnonymous: boolean;
  /**
   * Asks the registry for the manifest or index the reference names: the proof of the right to read, and for a tag
   * its present digest. Always goes to the network.
   */
  resolve(signal: AbortSignal): Promise<RawDocument>;
  /** A manifest by digest, or a config blob (`kind` config): verified against digest and size, at most 4 MiB. */
  document(kind: 'manifest' | 'config', descriptor: Descriptor, signal: AbortSignal): Promise<RawDocument>;
  /**
   * The bytes of one range of a blob, unverified, in order, exactly `lengthBytes` of them: errors otherwise.
   * A registry without range support makes the call read and drop what precedes the range.
   */
  readBlob(digest: Digest, blobSizeBytes: number, range: ByteRange, signal: AbortSignal): Promise<Readable>;
  close(): Promise<void>;
}
