import { createHash } from 'node:crypto';
import { forwardBuffered, type IncomingCall } from '../cri/forward-stream.ts';
import { GrpcCode } from '../cri/grpc-wire.ts';
import { readFields } from '../cri/protobuf-reader.ts';
import { answerStatus } from '../cri/respond.ts';
import { readMessage } from '../cri/unary-message.ts';
import type { Upstream } from '../cri/upstream.ts';

export const APPLY_PATH = '/containerd.services.diff.v1.Diff/Apply';
export const DIFF_PATH = '/containerd.services.diff.v1.Diff/Diff';

/**
 * Has containerd's own diff service apply a layer that is not applied here. Where that service is configured to ask us first, it
 * comes back with the same layer for the same mounts: that call is answered Unimplemented, which sends containerd on to its next
 * differ, so the layer goes round once and no more.
 */
export class ApplyFallback {
  readonly #containerd: Upstream;
  readonly #forwarded = new Set<string>();

  constructor(containerd: Upstream) {
    this.#containerd = containerd;
  }

  /** Forwards one call, or ends its round. */
  forward(call: IncomingCall, headers: readonly string[], body: Buffer): void {
    const key = keyOf(readMessage(call.headers, body));
    if (this.#forwarded.has(key)) {
      refuseApply(call);
      return;
    }
    this.#forwarded.add(key);
    call.stream.once('close', () => this.#forwarded.delete(key));
    forwardBuffered(call, this.#containerd, headers, body);
  }

  /** Whether this very call is on its way round. */
  isReturning(call: IncomingCall, body: Buffer): boolean {
    return this.#forwarded.has(keyOf(readMessage(call.headers, body)));
  }
}

/** containerd's diff service asks its next differ upon this. */
export function refuseApply(call: IncomingCall): void {
  answerStatus(call.stream, {
    code: GrpcCode.Unimplemented,
    message: 'Cannot apply the layer here: the next differ is wanted',
  });
}

/** Descriptor digest and mounts. The other fields hold maps, which come in another order each time. */
function keyOf(message: Buffer): string {
  const hash = createHash('sha256');
  readFields(message, (field, value) => {
    if (field === 1)
      readFields(value, (inner, digest) => {
        if (inner === 2) hash.update(digest);
      });
    if (field === 2) hash.update(`\0${value.length}\0`).update(value);
  });
  return hash.digest('hex');
}
