import { isShoalError } from '../base/errors.ts';
import type { P2pHostRule } from '../base/p2p-address.ts';
import { forwardP2pPull } from '../cri/forward-p2p-pull.ts';
import { forwardBuffered, type IncomingCall } from '../cri/forward-stream.ts';
import { frameMessage, unframeMessage } from '../cri/grpc-wire.ts';
import { mapPullRequest, type OriginRequest } from '../cri/p2p-request.ts';
import type { Upstream } from '../cri/upstream.ts';

/** Where pulls go that no agent takes. */
export interface PullFallback {
  readonly containerd: Upstream;
  /** Which hosts have P2P addresses: containerd could not resolve one. */
  readonly p2pRules: readonly P2pHostRule[];
}

/** Has containerd pull, from its origin what was asked for by a P2P address. */
export function forwardPull(
  { containerd, p2pRules }: PullFallback,
  call: IncomingCall,
  headers: readonly string[],
  body: Buffer,
): void {
  const mapped = mapBody(body, p2pRules);
  const sent = mapped === undefined ? body : frameMessage(mapped.message);
  if (mapped?.image === undefined) forwardBuffered(call, containerd, headers, sent);
  else void forwardP2pPull({ call, containerd, headers, body: sent, image: mapped.image });
}

/** Undefined for what has no P2P address, and for what cannot be read here (no request, or compressed): containerd judges that. */
function mapBody(body: Buffer, rules: readonly P2pHostRule[]): OriginRequest | undefined {
  try {
    const { compressed, message } = unframeMessage(body);
    return compressed ? undefined : mapPullRequest(message, rules);
  } catch (error) {
    if (isShoalError(error)) return undefined;
    throw error;
  }
}
