import type { Digest } from '../base/digest.ts';
import type { TransferCounts } from '../peer/transfer.ts';
import type { PullSnapshot } from '../pull/progress.ts';

/**
 * What `shoal pull`, `shoal status` and the NRI plugin say to the running agent: HTTP on a unix socket that only root (or
 * the agent's own user) may open. Versioned by the path.
 *
 * | request | answer |
 * |---|---|
 * | `POST /v1/pull` with a `PullCommand` | 200, then one `PullEvent` a line until `done` or `failed` |
 * | `GET /v1/status` | 200, an `AgentStatus` |
 *
 * Closing the connection cancels the pull.
 */
export const CONTROL_PATHS = { pull: '/v1/pull', status: '/v1/status' } as const;

/** A command is a reference and credentials; more than this is refused, bytes. */
export const CONTROL_BODY_BYTES_MAX = 64 * 1024;

/** How often a pull tells its progress, ms. */
export const PROGRESS_INTERVAL_MS = 200;

export interface PullCommand {
  readonly image: string;
  readonly username?: string;
  readonly password?: string;
}

export type PullEvent =
  | { readonly kind: 'progress'; readonly pull: PullSnapshot }
  | {
      readonly kind: 'done';
      readonly imageId: Digest;
      readonly digest: Digest;
      readonly imageBytes: number;
      readonly counts: TransferCounts;
      readonly seconds: number;
      readonly pull: PullSnapshot;
    }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string; readonly seconds: number };

export interface AgentStatus {
  readonly version: string;
  readonly node: string;
  readonly mode: string;
  readonly uptimeSeconds: number;
  readonly store: string;
  readonly peersKnown: number;
  readonly peersConnected: number;
  readonly cacheUsedBytes: number;
  readonly cacheCapacityBytes: number;
  readonly pulls: readonly PullSnapshot[];
  readonly totals: Readonly<Record<string, number>>;
}
