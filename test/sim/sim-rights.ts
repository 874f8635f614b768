import type { BlobKey } from '../../shim/base/blob-key.ts';
import type { ReadRight, Session } from '../../shim/peer/read-right.ts';
import { ReadRights } from '../../shim/peer/read-rights.ts';
import type { PeerMessage } from '../../shim/swarm/messages.ts';
import { peerName, type SimNode } from './sim-node.ts';
import type { WorldOptions } from './world-options.ts';

/** What a holder answers a request for which no proof came, ms. */
const UNPROVEN_PAUSE_MS = 100;

/** A question that needs a proof of the right to read ahead of it. */
type Question = Extract<PeerMessage, { kind: 'follow' | 'request' }>;

export interface Proof {
  readonly key: BlobKey;
  readonly proofs: readonly Uint8Array[];
  readonly session: Session;
}

/**
 * The agent's own `ReadRights`, one a node, between the core and the modelled network as in the agent. Only when some
 * nodes may not read what they want; then no blob is anonymous.
 */
export class SimRights {
  readonly #withoutRight: ReadonlySet<number>;
  readonly #rights = new Map<SimNode, ReadRights>();

  constructor({ withoutRight }: WorldOptions) {
    this.#withoutRight = new Set(withoutRight);
  }

  get isUsed(): boolean {
    return this.#withoutRight.size > 0;
  }

  mayRead(node: SimNode): boolean {
    return !this.#withoutRight.has(node.index);
  }

  /** The node's pull passed its check at the origin, or (without the right) it makes something up. */
  learn(node: SimNode, key: BlobKey, nowMs: number): void {
    if (!this.isUsed) return;
    const secret = new Uint8Array(32).fill(this.mayRead(node) ? 1 : 2);
    const right: ReadRight = { isAnonymous: false, secret };
    this.#of(node).learn(key, right, nowMs);
  }

  forget(node: SimNode): void {
    this.#rights.delete(node);
  }

  handleDisconnected(node: SimNode, peer: number): void {
    if (this.isUsed) this.#of(node).handleDisconnected(peerName(peer));
  }

  /** What has to go ahead of the message. */
  proofFor(from: SimNode, to: number, message: PeerMessage, nowMs: number): Proof | undefined {
    if (!this.isUsed || !isQuestion(message)) return undefined;
    const session = this.#session(from.index, to, from.connections.get(to)?.number ?? 0);
    const proofs = this.#of(from).proofsFor(message.key, session, nowMs);
    return proofs === undefined ? undefined : { key: message.key, proofs, session };
  }

  handleProof(node: SimNode, { key, proofs, session }: Proof, nowMs: number): void {
    this.#of(node).handleProofs(proofs, key, session, nowMs);
  }

  /** Undefined when the core may see the message, else what is answered in its place. */
  refusal(node: SimNode, from: number, message: PeerMessage, nowMs: number): PeerMessage | undefined {
    if (!this.isUsed || message.kind !== 'request') return undefined;
    if (this.#of(node).mayServe(peerName(from), message.key, nowMs)) return undefined;
    return { kind: 'busy', requestId: message.requestId, retryAfterMs: UNPROVEN_PAUSE_MS };
  }

  #session(asker: number, holder: number, connection: number): Session {
    const nonce = new Uint8Array(new Uint32Array([connection]).buffer);
    const binding = new Uint8Array(0);
    return {
      asker: peerName(asker),
      holder: peerName(holder),
      askerNonce: nonce,
      holderNonce: nonce,
      binding,
    };
  }

  #of(node: SimNode): ReadRights {
    const known = this.#rights.get(node);
    if (known !== undefined) return known;
    const rights = new ReadRights();
    this.#rights.set(node, rights);
    return rights;
  }
}

function isQuestion(message: PeerMessage): message is Question {
  return message.kind === 'follow' || message.kind === 'request';
}
