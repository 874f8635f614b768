/** Limits of the transfer engine; each has its unit in its name. */
export interface TransferLimits {
  /** Blobs that download at once; others wait for their turn. `proxyConcurrencyLimit`. */
  readonly downloadsMax: number;
  /** Bytes handed to local consumers, all together; 0 is unlimited. `throttleLimitMB` × 10^6. */
  readonly localBytesPerSecond: number;
  /** Bytes sent to peers; 0 is unlimited. */
  readonly uploadBytesPerSecond: number;
  /** Bytes read from one registry host by all nodes together, and from all hosts by this one; 0 is unlimited. */
  readonly originBytesPerSecond: number;
  /** Ranges of layers asked for, likewise; 0 is unlimited. */
  readonly originRequestsPerSecond: number;
  /** Origin reads in flight, all blobs together: registries limit connections a client. */
  readonly originReadsMax: number;
  /** A read of the origin that brings no byte for this long is given up and tried again. */
  readonly originStallMs: number;
  /** A blob that gets no chunk from anywhere for this long fails with Stalled. */
  readonly blobStallMs: number;
  /** How long a dial to a peer and its hello may take: peers are near, but busy ones answer late, and who gives up on a directory reads twice. */
  readonly dialTimeoutMs: number;
  /** Peers connected at once, dialled and accepted. */
  readonly connectionsMax: number;
}

export const DEFAULT_TRANSFER_LIMITS: TransferLimits = {
  downloadsMax: 64,
  localBytesPerSecond: 0,
  uploadBytesPerSecond: 0,
  originBytesPerSecond: 0,
  originRequestsPerSecond: 0,
  originReadsMax: 8,
  originStallMs: 10_000,
  blobStallMs: 60_000,
  dialTimeoutMs: 2_000,
  connectionsMax: 256,
};
