import type { OriginLimits } from '../../shim/swarm/budget-bucket.ts';
import type { SwarmLimits } from '../../shim/swarm/limits.ts';

interface At {
  readonly atMs: number;
}
interface AtNode extends At {
  /** Index of the node. */
  readonly node: number;
}
interface NodeSpan extends AtNode {
  readonly untilMs: number;
}

/** What goes wrong, as data. */
export type Fault =
  /** The process is gone, connections are reset. */
  | ({ readonly kind: 'crash' } & AtNode)
  /** Comes back after a crash and remembers nothing; it pulls at once. */
  | ({ readonly kind: 'restart' } & AtNode)
  /** A silent peer: takes what it is sent and says nothing, connections stay open. */
  | ({ readonly kind: 'freeze' } & NodeSpan)
  /** Serves wrong bytes; with `publishes` it also tells the directory the hashes of wrong bytes for what it reads at the origin. */
  | ({ readonly kind: 'lie'; readonly publishes?: boolean } & AtNode)
  /** Says busy to every request. */
  | ({ readonly kind: 'busy' } & AtNode)
  /** Its links have this share of their rate. */
  | ({ readonly kind: 'slowLink'; readonly share: number } & NodeSpan)
  /** Its disk writes no faster than this. */
  | ({ readonly kind: 'slowDisk'; readonly bytesPerSecond: number } & NodeSpan)
  /** Nodes below `node` and the others do not hear each other. */
  | ({ readonly kind: 'partition' } & NodeSpan)
  /** Packets are lost everywhere: this share of messages and chunks, and what follows on the connection, comes a retransmission later. */
  | ({ readonly kind: 'loss'; readonly percent: number; readonly untilMs: number } & At)
  /** The origin refuses, or (`outage`) does not answer at all. */
  | ({
      readonly kind: 'originDown';
      readonly untilMs: number;
      readonly retryAfterMs: number;
      readonly answer?: 429 | 503 | 'outage';
    } & At)
  /** The node's clock jumps ahead (it slept) and then runs this much too fast or slow. */
  | ({ readonly kind: 'clockSkew'; readonly jumpMs: number; readonly percent: number } & AtNode)
  /** Each node knows only this share of the members. */
  | ({ readonly kind: 'views'; readonly percent: number; readonly untilMs: number } & At)
  /** The end of all faults: what crashed or lied restarts with nothing, the rest goes back to normal. Then everything must finish. */
  | ({ readonly kind: 'heal' } & At);

/** CPU seconds per GB (10^9 bytes) on one core, and how much grows on unpacking. */
export interface Costs {
  readonly receiveSecondsPerGb: number;
  readonly serveSecondsPerGb: number;
  /** Inflate, hash of the content and writing of the tree, per GB of content. */
  readonly unpackSecondsPerGb: number;
}

/** What a node is made of besides its link. Without it storing and unpacking take no time. */
export interface Machine {
  /** Reads and writes together. */
  readonly diskBytesPerSecond: number;
  /** CPU seconds that the agent may use a second. */
  readonly cores: number;
  readonly costs: Costs;
  /** Content over layer bytes; undefined when nothing is unpacked. */
  readonly unpackedOverPacked: number | undefined;
  /** What was written or read this recently is read without the disk. */
  readonly pageCacheBytes: number;
  /** What may wait to be written while the writer goes on. */
  readonly dirtyBytes: number;
  /** Layers that download at once, in the order of the image; all of them by default. */
  readonly layersAtOnce?: number;
  /** Layers that are unpacked at once, in the order in which they began to arrive; all by default. */
  readonly unpackWorkers?: number;
  /** containerd keeps the blobs, and reads each once it is down: a link is free, its digest is not. By default it discards them. */
  readonly keepsBlobs?: boolean;
}

export interface Zones {
  readonly count: number;
  /** What all nodes of a zone together can send to, and receive from, other zones. */
  readonly linkBytesPerSecond: number;
}

export interface WorldOptions {
  readonly nodes: number;
  readonly blobSizesBytes: readonly number[];
  readonly seed: number;
  readonly upBytesPerSecond: number;
  readonly downBytesPerSecond: number;
  /** Uplinks of single nodes. */
  readonly upOf?: ReadonlyMap<number, number>;
  readonly originBytesPerSecond: number;
  readonly latencyMs: number;
  readonly originLatencyMs: number;
  /** The origin answers 429 above this. */
  readonly originRequestsPerSecond?: number;
  /** Nodes start evenly at random within this, ms. */
  readonly startSpreadMs: number;
  /** Start of single nodes, ms. */
  readonly startMs?: ReadonlyMap<number, number>;
  /** Nodes that hold every blob from the start. */
  readonly seeds?: readonly number[];
  /** Nodes that are members but want nothing. */
  readonly idle?: readonly number[];
  /** Blobs (by index) that single nodes do not want. */
  readonly unwanted?: ReadonlyMap<number, readonly number[]>;
  readonly mayNotReadOrigin?: readonly number[];
  /** Nodes that try to get what the origin would refuse them. */
  readonly withoutRight?: readonly number[];
  /** Node `i` is in zone `i % count`. */
  readonly zones?: Zones;
  readonly machine?: Machine;
  readonly faults?: readonly Fault[];
  /** What all nodes together may read, by their own doing. */
  readonly originLimits?: OriginLimits;
  readonly limits?: Partial<SwarmLimits>;
}
