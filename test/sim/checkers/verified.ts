import { type Observer, Violation } from '../observer.ts';
import { NO_BYTES, type SimBlob, TRUE_BYTES } from '../sim-blob.ts';
import type { SimNode } from '../sim-node.ts';

/**
 * Only bytes that were checked are served on: an honest node sends what it stored under a hash, and what it has at the end is
 * the true blob. (Wrong bytes whose hash a liar published pass the first check of a chunk, never the blob's digest.)
 */
export class VerifiedChecker implements Observer {
  onServe({ from, to, blob, chunk, bytes }: Parameters<NonNullable<Observer['onServe']>>[0]): void {
    if (from.isLiar || bytes !== NO_BYTES) return;
    throw new Violation(
      `node ${from.index} serves chunk ${chunk} of blob ${blob.index} to ${to.index} without having it`,
    );
  }

  onEnd(nodes: readonly SimNode[], isDone: boolean): void {
    if (!isDone) return;
    for (const node of nodes) {
      if (node.isLiar || !node.isAlive || node.doneMs === undefined) continue;
      for (const { blob, bytes } of node.stored.values()) checkTrue(node, blob, bytes);
    }
  }
}

function checkTrue(node: SimNode, blob: SimBlob, bytes: Uint8Array): void {
  const wrong = bytes.findIndex((each) => each !== TRUE_BYTES);
  if (wrong < 0) return;
  throw new Violation(`node ${node.index} ended with wrong bytes in chunk ${wrong} of blob ${blob.index}`);
}
