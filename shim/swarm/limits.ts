import { assert } from '../base/assert.ts';

const MIB = 1024 * 1024;

/** Unit of request, verification and serving. 2 MiB: small enough to spread at once, large enough that control traffic is nothing. */
export const CHUNK_SIZE_BYTES = 2 * MIB;

/** 1 TiB; a larger claim is a lie or a mistake, and would size arrays. */
export const BLOB_SIZE_MAX_BYTES = 1024 * 1024 * MIB;

export const CHUNK_HASH_BYTES = 32;

/** What one node allows itself and others. A test may narrow any of them. */
export interface SwarmLimits {
  /** Blobs that a node takes part in (pulled or served). Bounds memory against callers that never leave. */
  readonly blobsMax: number;
  /** Holders that a node looks for per blob. Few, for those that come later follow this node and are followed back: first comers do not end up among themselves. */
  readonly neighboursTarget: number;
  /** Holders followed per blob, those included that are followed because they follow this node. */
  readonly neighboursMax: number;
  /** Peers that follow one blob here. Bounds `have` traffic. */
  readonly followersMax: number;
  /** Of these, places kept for peers not known to hold anything: a newcomer must not be starved by a full house. */
  readonly followersReserved: number;
  /**
   * Chunk requests under way, over all blobs: at least this, and more as the bandwidth-delay product asks for. As many as upload slots:
   * then every link can be full in both directions; with more, some nodes take the slots that others need.
   */
  readonly requestsStart: number;
  /** Same, upper end: 128 MiB in flight is 0.1 s at 10 Gbit/s. */
  readonly requestsMax: number;
  /** In-flight target as time at the measured chunk rate, ms, on top of round trips. Covers the delays of a busy process. */
  readonly requestsAheadMs: number;
  /** Requests under way at one peer, upper end. */
  readonly requestsPerPeerMax: number;
  /** Chunks served at once. Enough to fill a link, and no more: a chunk can be passed on only when whole (4 beat 8 by 1–3 % at 200 nodes). */
  readonly uploadSlots: number;
  /** Slots besides these for nodes of other zones: a whole zone waits for what one of them fetches. */
  readonly uploadSlotsForImports: number;
  /**
   * A chunk that has been leaving for this long, ms, and for four times the usual, leaves its slot to another, up to so many: its peer
   * may be frozen, and would keep the slot until the send times out.
   */
  readonly uploadSlowMs: number;
  readonly uploadSlotsForSlow: number;
  /** Range of the hint in `busy`, ms. */
  readonly busyHintMinMs: number;
  readonly busyHintMaxMs: number;
  /** Window of random selection: the first so many missing chunks (512 MiB). Wide enough for the swarm's bandwidth-delay product. */
  readonly windowChunks: number;
  /**
   * How far ahead of consumers that set a pace chunks are fetched, over all blobs (160 MiB, twice that for those that wait): wide enough for chunks to spread through a
   * thousand nodes, and of blob and tree little enough to be in the page cache of 1 GB until they are unpacked and passed on.
   */
  readonly aheadChunks: number;
  /** The consumer has enough when all of this is there ahead of it (32 MiB): no front band then. */
  readonly consumerEnoughChunks: number;
  /** At least so many for each blob (32 MiB), also for one whose consumer has not begun. */
  readonly aheadChunksMin: number;
  /** Missing chunks just ahead of the consumer that a quarter of the requests serve. */
  readonly frontBandChunks: number;
  /** `have` is collected for this long, ms; in swarms up to `smallSwarm` nodes for the shorter time. */
  readonly haveDelayMs: number;
  readonly haveDelaySmallMs: number;
  readonly smallSwarm: number;
  /** Chunks in a `have` or hashes in a `directory`, upper end (32 KiB of hashes). */
  readonly hashesPerMessageMax: number;
  /** Announce interval while pulling, and when complete, ms. Each is spread by ±20 %. */
  readonly announceIntervalMs: number;
  readonly announceCompleteIntervalMs: number;
  /** Shortest time between two announces of one blob, ms. */
  readonly announceGapMs: number;
  /** How many announce intervals the directory remembers a participant. */
  readonly announceTtlIntervals: number;
  /** Directory: blobs, participants per blob, holders per answer, upper ends. */
  readonly directoryKeysMax: number;
  readonly directoryParticipantsMax: number;
  readonly directoryHoldersPerAnswer: number;
  /** Directory: changes are collected for this long before they are pushed, ms. */
  readonly directoryPushDelayMs: number;
  /** Directory: a new directory that meets a running swarm listens this long before it grants leases, ms. */
  readonly directoryWarmUpMs: number;
  /** Directory nodes of a blob: best by rendezvous hash. Three survive two failures. */
  readonly directoriesPerBlob: number;
  /** Chunks in one origin lease (8 MiB): one ranged GET, soon spread. */
  readonly leaseChunks: number;
  /** Same for a node that nobody shares with: fewer requests at the registry. */
  readonly leaseChunksAlone: number;
  readonly leasesPerNode: number;
  /** What the nodes of a swarm up to `smallSwarm` hold together, one each at least. */
  readonly leasesSmallSwarm: number;
  readonly leasesPerBlob: number;
  /** Lease lifetime without progress, ms: at least this, and four times the usual time between two chunks. */
  readonly leaseTtlMinMs: number;
  /** The same as long as no chunk has come, ms: how slow the origin is, nobody knows, and nodes that all begin at once are late to announce. */
  readonly leaseTtlFirstMs: number;
  readonly leaseTtlMaxMs: number;
  /** A request is hedged after the 95th percentile of recent chunk times, but not before this, ms. */
  readonly hedgeFloorMs: number;
  /** Hedges as a share of requests, in percent. */
  readonly hedgeBudgetPercent: number;
  /** When no more chunks than this are missing, each may be asked of two peers. */
  readonly endgameChunks: number;
  /** As long as no chunk has come from anybody: a request fails when its peer has sent no byte for this long, ms. */
  readonly firstByteTimeoutMs: number;
  /** A request fails after four times the 95th percentile, within these, ms. */
  readonly requestTimeoutMinMs: number;
  readonly requestTimeoutMaxMs: number;
  /** Time for `dial` and for the answer to `follow`, ms. The driver's own dial limit is shorter. */
  readonly answerTimeoutMs: number;
  /** Failures in a row after which a peer is left alone. */
  readonly failuresMax: number;
  readonly backOffMinMs: number;
  readonly backOffMaxMs: number;
  /** Same after the first failed dial: short, for a healed network should soon be one swarm again. */
  readonly dialBackOffMinMs: number;
  readonly banMs: number;
  readonly bansMax: number;
  /** All directories silent for this long: the node may begin to draw for reading by itself, ms. */
  readonly directoryLostMs: number;
  /** Neighbours offer chunks but none gives any for this long: the node may begin to draw for reading by itself, ms. */
  readonly stalledMs: number;
  /** Same when nobody even offers what is missing, ms. Longer: usually somebody is reading it. */
  readonly starvedMs: number;
  /** The least useful neighbours are exchanged when others are known: first after this, then after twice that, and so on, ms. */
  readonly neighbourReviewFirstMs: number;
  /** Same, longest time between two exchanges, and the longest for which the one that was left is not followed again, ms. */
  readonly neighbourReviewMs: number;
}

export const DEFAULT_LIMITS: SwarmLimits = {
  blobsMax: 4096,
  neighboursTarget: 8,
  neighboursMax: 32,
  followersMax: 32,
  followersReserved: 4,
  requestsStart: 4,
  requestsMax: 64,
  requestsAheadMs: 60,
  requestsPerPeerMax: 16,
  uploadSlots: 4,
  uploadSlotsForImports: 1,
  uploadSlowMs: 2_000,
  uploadSlotsForSlow: 4,
  busyHintMinMs: 10,
  busyHintMaxMs: 200,
  windowChunks: 256,
  aheadChunks: 80,
  consumerEnoughChunks: 16,
  aheadChunksMin: 16,
  frontBandChunks: 8,
  haveDelayMs: 50,
  haveDelaySmallMs: 5,
  smallSwarm: 32,
  hashesPerMessageMax: 1024,
  announceIntervalMs: 3_000,
  announceCompleteIntervalMs: 300_000,
  announceGapMs: 10,
  announceTtlIntervals: 4,
  directoryKeysMax: 4096,
  directoryParticipantsMax: 8192,
  directoryHoldersPerAnswer: 24,
  directoryPushDelayMs: 50,
  directoryWarmUpMs: 1_000,
  directoriesPerBlob: 3,
  leaseChunks: 4,
  leaseChunksAlone: 16,
  leasesPerNode: 4,
  leasesSmallSwarm: 8,
  leasesPerBlob: 64,
  leaseTtlMinMs: 5_000,
  leaseTtlFirstMs: 10_000,
  leaseTtlMaxMs: 60_000,
  hedgeFloorMs: 250,
  hedgeBudgetPercent: 2,
  endgameChunks: 16,
  firstByteTimeoutMs: 2_000,
  requestTimeoutMinMs: 2_000,
  requestTimeoutMaxMs: 30_000,
  answerTimeoutMs: 3_000,
  failuresMax: 2,
  backOffMinMs: 10_000,
  backOffMaxMs: 120_000,
  dialBackOffMinMs: 1_000,
  banMs: 600_000,
  bansMax: 4096,
  directoryLostMs: 2_000,
  stalledMs: 5_000,
  starvedMs: 30_000,
  neighbourReviewFirstMs: 500,
  neighbourReviewMs: 10_000,
};

/** Completes `partial` and states how the limits relate. */
export function swarmLimits(partial: Partial<SwarmLimits> = {}): SwarmLimits {
  const limits = { ...DEFAULT_LIMITS, ...partial };
  assert(limits.followersReserved < limits.followersMax, 'reserved places are a part of all places');
  assert(limits.requestsStart <= limits.requestsMax, 'requests start below their upper end');
  assert(limits.leaseChunks >= 1 && limits.leasesPerNode >= 1, 'a lease covers something');
  assert(limits.backOffMinMs <= limits.backOffMaxMs, 'back-off grows');
  return limits;
}

export function chunkCountOf(sizeBytes: number): number {
  return Math.max(1, Math.ceil(sizeBytes / CHUNK_SIZE_BYTES));
}
