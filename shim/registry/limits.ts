/** Time and size bounds of one origin. Tests make them small; the agent takes the defaults. */
export interface OriginLimits {
  /** Longest wait for a TCP and TLS connection, unless hosts.toml says otherwise, ms. */
  readonly connectTimeoutMs: number;
  /** Longest time without a byte, before the response's headers and inside its body, ms. */
  readonly stallTimeoutMs: number;
  /** Connections to one host at once. Requests above it wait; readers of ranges are fewer. */
  readonly connectionsMax: number;
  /** Further tries after a connection error, 5xx, 408 or 429 from every host. */
  readonly retriesMax: number;
  /** First pause between tries, doubled each time, ms. */
  readonly retryDelayMs: number;
  /** Longest sum of the pauses that registries ask for by Retry-After before we give up, ms. */
  readonly retryAfterTotalMs: number;
}

export const DEFAULT_ORIGIN_LIMITS: OriginLimits = {
  connectTimeoutMs: 10_000,
  stallTimeoutMs: 30_000,
  connectionsMax: 16,
  retriesMax: 3,
  retryDelayMs: 300,
  retryAfterTotalMs: 20_000,
};

/** Body of an error response: the spec's JSON is some hundred bytes, proxies send pages of HTML. */
export const ERROR_BODY_BYTES_MAX = 64 * 1024;
/** Longest time spent on reading why a request failed, ms. */
export const ERROR_BODY_TIMEOUT_MS = 5000;
/** Characters of a registry's own explanation that reach a message. */
export const ERROR_TEXT_LENGTH_MAX = 200;
/** Body of a token server's answer: tokens with many claims are some ten KiB. */
export const TOKEN_BODY_BYTES_MAX = 1024 * 1024;
/** Longest token sent as a header, characters: servers commonly refuse headers above this. */
export const TOKEN_LENGTH_MAX = 32 * 1024;
/** Longest time one token request may take altogether, ms. */
export const TOKEN_TIMEOUT_MS = 30_000;
/** Tokens are replaced this long before they expire, ms, or at 9/10 of a shorter life. */
export const TOKEN_MARGIN_MS = 10_000;
/** Redirects of one request, as in containerd. */
export const REDIRECTS_MAX = 10;
/** How long a blob's redirect target is used again without asking, ms; signed URLs live for minutes at least. */
export const REDIRECT_LIFE_MS = 120_000;
/** Redirect targets remembered for one host: one a layer. */
export const REDIRECT_TARGETS_MAX = 1024;
/** A host that could not be reached is tried after the others for this long, ms. */
export const HOST_PENALTY_MS = 30_000;
/** Scopes asked of a token server. */
export const SCOPES_MAX = 8;
