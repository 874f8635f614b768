/**
 * The one error family. Match on `code`, never on the message.
 *
 * Grammar of messages: `Cannot <do> "<what>": <state found, state wanted>`, no full stop. Messages may reach
 * kubelet events and logs, so they never hold credentials, tokens, URL queries or userinfo.
 */
export const ErrorCode = {
  /** The image reference does not follow the Docker/OCI grammar. */
  InvalidReference: 'INVALID_REFERENCE',
  /** The registry has no such manifest or blob (404). */
  NotFound: 'NOT_FOUND',
  /** The registry wants (other) credentials (401), or its token server refused them. */
  Unauthorized: 'UNAUTHORIZED',
  /** The registry knows the caller and refuses (403). */
  Forbidden: 'FORBIDDEN',
  /** The registry asked us to slow down (429) for longer than we wait. */
  RateLimited: 'RATE_LIMITED',
  /** The registry cannot be reached, or answers 5xx after retries. */
  RegistryUnavailable: 'REGISTRY_UNAVAILABLE',
  /** The registry's answer breaks the distribution spec. */
  RegistryProtocol: 'REGISTRY_PROTOCOL',
  /** Manifest, index or config cannot be parsed or contradicts itself. */
  ManifestInvalid: 'MANIFEST_INVALID',
  /** Content does not have the digest that names it. */
  DigestMismatch: 'DIGEST_MISMATCH',
  /** Content is longer or shorter than its descriptor says. */
  SizeMismatch: 'SIZE_MISMATCH',
  /** Something is larger than a named limit. */
  LimitExceeded: 'LIMIT_EXCEEDED',
  /** A feature that Shoal leaves to containerd. */
  Unsupported: 'UNSUPPORTED',
  /** A layer tries to write outside its root. */
  UnpackUnsafe: 'UNPACK_UNSAFE',
  /** A layer's compressed stream or tar is malformed. */
  UnpackInvalid: 'UNPACK_INVALID',
  /** A file-system call failed while a layer was unpacked. */
  UnpackFailed: 'UNPACK_FAILED',
  /** The cache's file system is full or read-only. */
  CacheUnavailable: 'CACHE_UNAVAILABLE',
  /** A cached file does not verify. */
  CacheCorrupt: 'CACHE_CORRUPT',
  /** containerd (or the layout directory) cannot be reached. */
  StoreUnavailable: 'STORE_UNAVAILABLE',
  /** containerd (or the layout directory) refused an operation. */
  StoreFailed: 'STORE_FAILED',
  /** No byte arrived for longer than the progress limit. */
  Stalled: 'STALLED',
  /** The caller gave up. */
  Cancelled: 'CANCELLED',
  /** A setting is unknown, of the wrong type, or out of range. */
  ConfigInvalid: 'CONFIG_INVALID',
  /** A peer broke the peer protocol. */
  PeerProtocol: 'PEER_PROTOCOL',
  /** A peer cannot be reached or went away. */
  PeerUnavailable: 'PEER_UNAVAILABLE',
  /** A socket or port cannot be listened on. */
  ListenFailed: 'LISTEN_FAILED',
  /** The Kubernetes API server cannot be reached, or refuses to answer. */
  ClusterUnavailable: 'CLUSTER_UNAVAILABLE',
} as const;
export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

export interface ErrorOptions {
  readonly cause?: unknown;
  /** Whether the same call may succeed later without anybody changing anything. Default false. */
  readonly retriable?: boolean;
  /** How long the remote side asked us to wait, ms. */
  readonly retryAfterMs?: number;
  /** The facts of the failure for logs: digests, sizes, host names; never secrets. */
  readonly facts?: Readonly<Record<string, string | number | boolean>>;
}

export class ShoalError extends Error {
  override readonly name = 'ShoalError';
  readonly code: ErrorCode;
  readonly retriable: boolean;
  readonly retryAfterMs: number | undefined;
  readonly facts: Readonly<Record<string, string | number | boolean>>;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retriable = options.retriable ?? false;
    this.retryAfterMs = options.retryAfterMs;
    this.facts = options.facts ?? {};
  }
}

/** Whether `error` is one of ours, optionally with one of these codes. */
export function isShoalError(error: unknown, ...codes: ErrorCode[]): error is ShoalError {
  return error instanceof ShoalError && (codes.length === 0 || codes.includes(error.code));
}

/** Node's own error code (`ENOENT`, `ECONNREFUSED`, …) of a caught value, if it has one. */
export function nodeErrorCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** Throws `Cancelled` when the signal is aborted; keeps a ShoalError that was given as the reason. */
export function throwIfAborted(signal: AbortSignal, doing: string): void {
  if (signal.aborted) throw cancelled(signal, doing);
}

export function cancelled(signal: AbortSignal, doing: string): ShoalError {
  if (signal.reason instanceof ShoalError) return signal.reason;
  return new ShoalError(ErrorCode.Cancelled, `Cannot ${doing}: the caller gave up`, { cause: signal.reason });
}
