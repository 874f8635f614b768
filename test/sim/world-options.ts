import type { SwarmLimits } from '../../shim/swarm/limits.ts';

/** What goes wrong, as data. `node` is an index. */
export type Fault =
  | { readonly kind: 'crash'; readonly atMs: number; readonly node: number }
  /** Comes back after a crash and remembers nothing; it pulls at once. Not for nodes that were done. */
  | { readonly kind: 'restart'; readonly atMs: number; readonly node: number }
  /** Takes what it is sent and says nothing, connections stay open. */
  | { readonly kind: 'freeze'; readonly atMs: number; readonly untilMs: number; readonly node: number }
  /** Serves wrong bytes. */
  | { readonly kind: 'lie'; readonly atMs: number; readonly node: number }
  /** Says busy to every request. */
  | { readonly kind: 'busy'; readonly atMs: number; readonly node: number }
  /** Nodes below `node` and the others do not hear each other. */
  | { readonly kind: 'partition'; readonly atMs: number; readonly untilMs: number; readonly node: number }
  /** The origin refuses with a retry hint. */
  | {
      readonly kind: 'originDown';
      readonly atMs: number;
      readonly untilMs: number;
      readonly retryAfterMs: number;
    };

export interface WorldOptions {
  readonly nodes: number;
  readonly blobSizesBytes: readonly number[];
  readonly seed: number;
  readonly upBytesPerSecond: number;
  readonly downBytesPerSecond: number;
  readonly originBytesPerSecond: number;
  readonly latencyMs: number;
  readonly originLatencyMs: number;
  /** Nodes start evenly at random within this, ms. */
  readonly startSpreadMs: number;
  /** Start of single nodes, ms. */
  readonly startMs?: ReadonlyMap<number, number>;
  /** Nodes that hold every blob from the start. */
  readonly seeds?: readonly number[];
  /** Nodes that are members but want nothing. */
  readonly idle?: readonly number[];
  readonly mayNotReadOrigin?: readonly number[];
  readonly faults?: readonly Fault[];
  readonly limits?: Partial<SwarmLimits>;
}
