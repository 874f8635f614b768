/** What the engine did since it was made. Grows only; read by metrics at any time. */
export interface TransferCounters {
  /** Bytes read from origins, wasted ones included. */
  originBytes: number;
  originReads: number;
  originErrors: number;
  /** Reads that waited for their part of what all nodes together may read. */
  originBudgetWaits: number;
  /** Bytes received from peers that matched their hash. */
  peerBytes: number;
  /** Bytes received from peers that nobody needed any more, or that did not match. */
  peerWastedBytes: number;
  peerChunks: number;
  /** Chunks from peers whose bytes had another hash. */
  peerBadChunks: number;
  /** Bytes that were in the cache when a pull asked for them. */
  cacheBytes: number;
  /** Bytes sent to peers. */
  servedBytes: number;
  servedChunks: number;
  /** Chunks that a peer asked for and that could not be read here. */
  serveErrors: number;
  /** Bytes handed to local consumers. */
  localBytes: number;
  blobsOpened: number;
  blobsFinished: number;
  blobsFailed: number;
  blobsDistrusted: number;
  dials: number;
  dialErrors: number;
  /** Connections closed because the other side broke the protocol. */
  protocolErrors: number;
  /** Chunks that a peer asked for without having proven that it may read them; none of them was sent. */
  unprovenRequests: number;
  /** Proofs by pieces of a blob that were wrong. */
  wrongProofs: number;
  /** Pulls that were let through though their registry did not answer. Counted by who lets them. */
  outagePulls: number;
}

export function newTransferCounters(): TransferCounters {
  return {
    originBytes: 0,
    originReads: 0,
    originErrors: 0,
    originBudgetWaits: 0,
    peerBytes: 0,
    peerWastedBytes: 0,
    peerChunks: 0,
    peerBadChunks: 0,
    cacheBytes: 0,
    servedBytes: 0,
    servedChunks: 0,
    serveErrors: 0,
    localBytes: 0,
    blobsOpened: 0,
    blobsFinished: 0,
    blobsFailed: 0,
    blobsDistrusted: 0,
    dials: 0,
    dialErrors: 0,
    protocolErrors: 0,
    unprovenRequests: 0,
    wrongProofs: 0,
    outagePulls: 0,
  };
}
