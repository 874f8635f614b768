import { randomInt } from 'node:crypto';
import type { PeerId } from '../swarm/messages.ts';
import { type NodeRole, RootWatch } from './root-watch.ts';

/** Members that an agent asks whether there are roots. Those that it talks to for blobs say so as well. */
const ASKED_MAX = 4;

export interface OriginPermissionOptions {
  readonly isRoot: boolean;
  readonly self: PeerId;
  readonly dial: (peer: PeerId) => void;
  readonly onChange: (mayReadOrigin: boolean) => void;
}

/** Whether this node may read the origin at present: the clock and the dials around a RootWatch. */
export class OriginPermission {
  readonly #options: OriginPermissionOptions;
  readonly #roots: RootWatch;
  #timer: NodeJS.Timeout | undefined;
  /** As the core begins. */
  #mayRead = true;
  #isWithdrawn = false;

  constructor(options: OriginPermissionOptions) {
    this.#options = options;
    this.#roots = new RootWatch(options.isRoot);
  }

  get role(): NodeRole {
    return this.#roots.role(performance.now());
  }

  /** An agent that has met no root asks some members: they say what they are, and whether they have met one. */
  setMembers(members: readonly { readonly peer: PeerId }[]): void {
    const { self, dial } = this.#options;
    const others = members.map(({ peer }) => peer).filter((peer) => peer !== self);
    const nowMs = performance.now();
    this.#roots.setMembers(others.length, nowMs);
    if (this.#roots.wantsToAsk(nowMs))
      for (let count = 0; count < ASKED_MAX && others.length > 0; count++)
        for (const peer of others.splice(randomInt(others.length), 1)) dial(peer);
    this.#update();
  }

  connected(peer: PeerId, role: NodeRole): void {
    this.#roots.connected(peer, role, performance.now());
    this.#update();
  }

  disconnected(peer: PeerId): void {
    this.#roots.disconnected(peer, performance.now());
  }

  /** The node is about to stop: others should read what it would have to hand on. */
  withdraw(): void {
    this.#isWithdrawn = true;
    this.#update();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #update(): void {
    const nowMs = performance.now();
    const mayRead = !this.#isWithdrawn && this.#roots.mayReadOrigin(nowMs);
    const hasChanged = mayRead !== this.#mayRead;
    this.#mayRead = mayRead;
    if (hasChanged) this.#options.onChange(mayRead);
    clearTimeout(this.#timer);
    const nextMs = this.#roots.nextChangeMs(nowMs);
    if (nextMs === undefined) return;
    this.#timer = setTimeout(() => this.#update(), nextMs - nowMs);
    this.#timer.unref();
  }
}
