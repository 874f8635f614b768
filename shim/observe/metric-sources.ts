/** What metrics read of the transfer engine's counters. All grow only. */
export interface TransferTotals {
  readonly originBytes: number;
  readonly originReads: number;
  readonly originErrors: number;
  readonly originBudgetWaits: number;
  readonly peerBytes: number;
  readonly peerWastedBytes: number;
  readonly peerChunks: number;
  readonly peerBadChunks: number;
  readonly cacheBytes: number;
  readonly servedBytes: number;
  readonly servedChunks: number;
  readonly serveErrors: number;
  readonly localBytes: number;
  readonly blobsOpened: number;
  readonly blobsFinished: number;
  readonly blobsFailed: number;
  readonly blobsDistrusted: number;
  readonly dials: number;
  readonly dialErrors: number;
  readonly protocolErrors: number;
  readonly unprovenRequests: number;
  readonly wrongProofs: number;
  readonly outagePulls: number;
}

export interface CacheTotals {
  /** Capacity. */
  readonly allocatedBytes: number;
  readonly usedBytes: number;
  /** Dropped to make room, by why; the keys are a closed set. */
  readonly evictedBytes?: Readonly<Record<string, number>>;
  /** How full the cache's file system is, 0 to 1. */
  readonly diskUsedRatio?: number | undefined;
}

interface TransferCounter {
  readonly name: string;
  readonly help: string;
  readonly read: (totals: TransferTotals) => number;
}

/** The engine's counters that are exported one by one; bytes by source are one metric with a label. */
export const transferCounters: readonly TransferCounter[] = [
  {
    name: 'shoal_origin_reads_total',
    help: 'Ranges asked of registries',
    read: (totals) => totals.originReads,
  },
  {
    name: 'shoal_origin_errors_total',
    help: 'Ranges that registries did not give',
    read: (totals) => totals.originErrors,
  },
  {
    name: 'shoal_origin_budget_waits_total',
    help: 'Reads at registries that waited because all nodes together read as much as they may',
    read: (totals) => totals.originBudgetWaits,
  },
  {
    name: 'shoal_peer_chunks_total',
    help: 'Chunks received from peers',
    read: (totals) => totals.peerChunks,
  },
  {
    name: 'shoal_peer_bad_chunks_total',
    help: 'Chunks from peers that did not match their hash',
    read: (totals) => totals.peerBadChunks,
  },
  {
    name: 'shoal_peer_wasted_bytes_total',
    help: 'Bytes from peers that came too late or were wrong',
    read: (totals) => totals.peerWastedBytes,
  },
  { name: 'shoal_served_bytes_total', help: 'Bytes sent to peers', read: (totals) => totals.servedBytes },
  { name: 'shoal_served_chunks_total', help: 'Chunks sent to peers', read: (totals) => totals.servedChunks },
  {
    name: 'shoal_serve_errors_total',
    help: 'Chunks that peers asked for and that could not be read',
    read: (totals) => totals.serveErrors,
  },
  {
    name: 'shoal_layers_opened_total',
    help: 'Layers that pulls asked for',
    read: (totals) => totals.blobsOpened,
  },
  {
    name: 'shoal_layers_finished_total',
    help: 'Layers that arrived',
    read: (totals) => totals.blobsFinished,
  },
  {
    name: 'shoal_layers_failed_total',
    help: 'Layers that did not arrive',
    read: (totals) => totals.blobsFailed,
  },
  {
    name: 'shoal_layers_distrusted_total',
    help: 'Layers that arrived with another digest and were read again from the registry',
    read: (totals) => totals.blobsDistrusted,
  },
  { name: 'shoal_peer_dials_total', help: 'Connections opened to peers', read: (totals) => totals.dials },
  {
    name: 'shoal_peer_dial_errors_total',
    help: 'Connections to peers that failed',
    read: (totals) => totals.dialErrors,
  },
  {
    name: 'shoal_peer_protocol_errors_total',
    help: 'Connections closed because a peer broke the protocol',
    read: (totals) => totals.protocolErrors,
  },
  {
    name: 'shoal_peer_unproven_requests_total',
    help: 'Chunks that peers asked for without a proof that they may read them; none was sent',
    read: (totals) => totals.unprovenRequests,
  },
  {
    name: 'shoal_peer_wrong_proofs_total',
    help: 'Wrong answers of peers that were asked for pieces of a layer',
    read: (totals) => totals.wrongProofs,
  },
  {
    name: 'shoal_outage_pulls_total',
    help: 'Pulls that went on though their registry did not answer (originDown)',
    read: (totals) => totals.outagePulls,
  },
];
