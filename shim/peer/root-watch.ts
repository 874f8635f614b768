import type { PeerId } from '../swarm/messages.ts';

/** What a node says of itself in its hello. */
export const NodeRole = {
  /** Leaves the origin to roots as long as there are any, and has met none. */
  Agent: 0,
  /** May read the origin. */
  Root: 1,
  /** An agent that has met a root itself, not only heard of one. */
  AgentWithRoot: 2,
} as const;
export type NodeRole = (typeof NodeRole)[keyof typeof NodeRole];

/** A root that has not been seen for this long may be gone for good. */
const ROOT_MEMORY_MS = 10 * 60_000;
/** An agent that has members to ask waits this long for the first of them to say what it is. */
const FIRST_WORD_MS = 2_000;

/** Whether an agent knows of roots, and so whether it may read the origin. Pure. */
export class RootWatch {
  readonly #isRoot: boolean;
  readonly #connectedRoots = new Set<PeerId>();
  #metMs = Number.NEGATIVE_INFINITY;
  #heardMs = Number.NEGATIVE_INFINITY;
  /** Until then nobody has said whether there are roots. */
  #unknownUntilMs = Number.NEGATIVE_INFINITY;
  #hasMembers = false;

  constructor(isRoot: boolean) {
    this.#isRoot = isRoot;
  }

  /** There are others to ask. */
  setMembers(others: number, nowMs: number): void {
    if (others > 0 && !this.#hasMembers) this.#unknownUntilMs = nowMs + FIRST_WORD_MS;
    this.#hasMembers = others > 0;
  }

  connected(peer: PeerId, role: NodeRole, nowMs: number): void {
    this.#unknownUntilMs = Number.NEGATIVE_INFINITY;
    if (role === NodeRole.Root) this.#connectedRoots.add(peer);
    if (role === NodeRole.Root) this.#metMs = nowMs;
    if (role === NodeRole.AgentWithRoot) this.#heardMs = nowMs;
  }

  disconnected(peer: PeerId, nowMs: number): void {
    if (this.#connectedRoots.delete(peer)) this.#metMs = nowMs;
  }

  role(nowMs: number): NodeRole {
    if (this.#isRoot) return NodeRole.Root;
    return this.#hasMetRoot(nowMs) ? NodeRole.AgentWithRoot : NodeRole.Agent;
  }

  mayReadOrigin(nowMs: number): boolean {
    if (this.#isRoot || !this.#hasMembers) return true;
    if (nowMs < this.#unknownUntilMs) return false;
    return !this.#hasMetRoot(nowMs) && nowMs - this.#heardMs > ROOT_MEMORY_MS;
  }

  /** An agent that knows of no root should ask some members. */
  wantsToAsk(nowMs: number): boolean {
    return !this.#isRoot && this.#hasMembers && !this.#hasMetRoot(nowMs);
  }

  /** When to look again, though nothing has come in; undefined when only news can change anything. */
  nextChangeMs(nowMs: number): number | undefined {
    if (this.#isRoot) return undefined;
    if (nowMs < this.#unknownUntilMs) return this.#unknownUntilMs;
    const lastMs = Math.max(this.#metMs, this.#heardMs);
    const endMs = lastMs + ROOT_MEMORY_MS;
    return this.#connectedRoots.size === 0 && endMs > nowMs ? endMs + 1 : undefined;
  }

  #hasMetRoot(nowMs: number): boolean {
    return this.#connectedRoots.size > 0 || nowMs - this.#metMs <= ROOT_MEMORY_MS;
  }
}
