import { POD_SYNC_BYTES_MAX, type PodNotice } from '../shim/agent/control-protocol.ts';
import type { AgentMessage } from './plugin.ts';

/** Messages that wait for a slow agent: two of each pod of a full node. */
export const MESSAGES_MAX = 256;

/** What the agent is still to be told, in order. All pods at once take the place of everything that waited before. */
export class NoticeQueue {
  #messages: AgentMessage[] = [];
  #isSyncDue = false;

  /** `dropped`: the oldest message is lost, and all pods are due instead. */
  push(message: AgentMessage): 'kept' | 'dropped' {
    this.#messages.push(message);
    if (this.#messages.length <= MESSAGES_MAX) return 'kept';
    this.#messages.shift();
    this.#isSyncDue = true;
    return 'dropped';
  }

  requestSync(): void {
    this.#isSyncDue = true;
  }

  shift(): AgentMessage | 'sync' | undefined {
    if (!this.#isSyncDue) return this.#messages.shift();
    this.#isSyncDue = false;
    this.#messages = [];
    return 'sync';
  }
}

/** The body of a sync. What is more than the agent takes is left out, the oldest pods first. */
export function syncBody(pods: readonly PodNotice[]): string {
  const kept: string[] = [];
  let left = POD_SYNC_BYTES_MAX - 64;
  for (const pod of pods.toReversed()) {
    const text = JSON.stringify(pod);
    left -= Buffer.byteLength(text) + 1;
    if (left < 0) break;
    kept.push(text);
  }
  return `{"pods":[${kept.reverse().join(',')}]}`;
}
