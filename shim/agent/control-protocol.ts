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
 * | `POST /v1/pods` with a `PodNotice` | 200 at once; warming goes on in the background |
 * | `POST /v1/pods/sync` with a `PodSync` | 200; replaces all that is remembered from this source |
 * | `POST /v1/pods/removed` with a `PodRemoved` | 200; forgets the pod and stops warming that nobody else wants |
 * | `GET /v1/pods/results` | 200, one `PullResult` a line: the recent ones, then each as it ends, until the reader leaves |
 *
 * Closing the connection cancels the pull. A reader of results that does not keep up is cut off; it reconnects and is
 * told the recent ones again.
 */
export const CONTROL_PATHS = {
  pull: '/v1/pull',
  status: '/v1/status',
  pods: '/v1/pods',
  podsSync: '/v1/pods/sync',
  podsRemoved: '/v1/pods/removed',
  podsResults: '/v1/pods/results',
} as const;

/** A command is a reference and credentials; more than this is refused, bytes. */
export const CONTROL_BODY_BYTES_MAX = 64 * 1024;

/** A pod's labels and annotations under the key prefix: Kubernetes bounds all annotations of an object to this, bytes. */
export const POD_NOTICE_BYTES_MAX = 256 * 1024;

/** All pods of a node (some hundreds) with what they list, bytes. */
export const POD_SYNC_BYTES_MAX = 8 * 1024 * 1024;

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
  /** Pods that are remembered, and images by how far their warm-ups are. */
  readonly warming: {
    readonly pods: number;
    readonly waiting: number;
    readonly running: number;
    readonly held: number;
  };
}

/** One pod as the NRI plugin sees it at RunPodSandbox or Synchronize. */
export interface PodNotice {
  readonly podUid: string;
  readonly namespace: string;
  readonly name: string;
  readonly sandboxId?: string;
  readonly runtimeHandler?: string;
  /** Only those under the key prefix. */
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** false: remember its policy only, it runs already. */
  readonly warm: boolean;
}

export interface PodSync {
  readonly pods: readonly PodNotice[];
}

export interface PodRemoved {
  readonly podUid: string;
  /** The sandbox that was removed; a pod that has a later one is not forgotten. */
  readonly sandboxId?: string;
}

/** How one PullImage that containerd or this agent answered came to its end. */
export interface PullResult {
  /** As asked. */
  readonly image: string;
  readonly podUid?: string;
  readonly namespace?: string;
  /** Whether this agent brought the image; false: containerd did, or nobody. */
  readonly accelerated: boolean;
  /** `accelerated`, or the policy's reason, or why the pull was handed over or failed. */
  readonly reason: string;
  readonly seconds: number;
  /** Where the image's bytes came from, those of a warm-up before included. */
  readonly bytes: { readonly origin: number; readonly peer: number; readonly cache: number };
  /** Milliseconds since the epoch. */
  readonly endedAtMs: number;
}
