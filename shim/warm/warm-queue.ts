export interface WarmQueueLimits {
  /** Images that are warmed at once on this node. */
  readonly atOnce: number;
  /** How long warm layers wait for their pull, ms. */
  readonly holdMs: number;
}

/** One pod's images, to be warmed in this order. */
export interface WarmWish {
  readonly podUid: string;
  readonly namespace: string;
  /** Canonical names. */
  readonly images: readonly string[];
  /** Images of this pod at a time. */
  readonly atOnce: number;
}

/**
 * `waiting` to be begun (again), `running`, `held` for its pull, or `over`: pulled, present, refused, failed, or waited for in
 * vain. What is over stays known as long as a pod wants it, so that it is not begun again.
 */
export type WarmState = 'waiting' | 'running' | 'held' | 'over';

/** Images of all pods together; further ones are left to their pulls. */
export const WARM_IMAGES_MAX = 512;

interface Entry {
  readonly wantedBy: Set<string>;
  state: WarmState;
  heldUntilMs: number;
  refused: boolean;
  /** Pulls that wait for this one. */
  joined: number;
}

/**
 * Which image is warmed when. Pods come in the order of their notices and images in the order of the pod; while anybody
 * pulls, nothing is begun, and what runs and is not what is pulled is to be paused. Pure: the caller does the work.
 */
export class WarmQueue {
  readonly #limits: WarmQueueLimits;
  readonly #wishes = new Map<string, WarmWish>();
  readonly #entries = new Map<string, Entry>();
  /** Names of images that are being pulled, with how many pulls; empty for those that containerd pulls. */
  readonly #pulls = new Map<string, number>();

  constructor(limits: WarmQueueLimits) {
    this.#limits = limits;
  }

  count(state: WarmState): number {
    return [...this.#entries.values()].filter((entry) => entry.state === state).length;
  }

  stateOf(image: string): WarmState | undefined {
    return this.#entries.get(image)?.state;
  }

  wishesFor(image: string): WarmWish[] {
    const entry = this.#entries.get(image);
    return [...this.#wishes.values()].filter(({ podUid }) => entry?.wantedBy.has(podUid));
  }

  /** A pod's wish, in place of an earlier one. What is over is considered again for a pod that is new to it. Gives how many images found no room. */
  want(wish: WarmWish): number {
    this.#wishes.set(wish.podUid, wish);
    let dropped = 0;
    for (const image of wish.images) {
      const entry = this.#entries.get(image) ?? this.#add(image);
      if (entry === undefined) {
        dropped += 1;
        continue;
      }
      if (entry.state === 'over' && !entry.wantedBy.has(wish.podUid)) entry.state = 'waiting';
      entry.wantedBy.add(wish.podUid);
    }
    return dropped;
  }

  /** Gives the images that neither a pod nor a pull wants any more: to be stopped, released, forgotten. */
  forget(podUid: string): string[] {
    this.#wishes.delete(podUid);
    const unwanted: string[] = [];
    for (const [image, entry] of this.#entries) {
      if (!entry.wantedBy.delete(podUid) || entry.wantedBy.size > 0 || entry.joined > 0) continue;
      if (entry.state !== 'running') this.#entries.delete(image);
      unwanted.push(image);
    }
    return unwanted;
  }

  /** A pull begins; gives what is to be paused for it. `image` is undefined for a pull that containerd does. */
  pullBegins(image: string | undefined): string[] {
    const name = image ?? '';
    this.#pulls.set(name, (this.#pulls.get(name) ?? 0) + 1);
    return [...this.#entries].flatMap(([running, entry]) =>
      entry.state === 'running' && entry.joined === 0 && !this.#pulls.has(running) ? [running] : [],
    );
  }

  /** Gives what this pull alone has kept from being forgotten. */
  pullEnds(image: string | undefined): string[] {
    const name = image ?? '';
    const left = (this.#pulls.get(name) ?? 1) - 1;
    if (left > 0) this.#pulls.set(name, left);
    else this.#pulls.delete(name);
    const unwanted = [...this.#entries].flatMap(([each, { wantedBy, joined, state }]) =>
      wantedBy.size === 0 && joined === 0 && state !== 'running' ? [each] : [],
    );
    for (const each of unwanted) this.#entries.delete(each);
    return unwanted;
  }

  /** The images to begin now; they count as running from here on. */
  begin(): string[] {
    if (this.#pulls.size > 0) return [];
    const begun: string[] = [];
    for (const wish of this.#wishes.values())
      for (const image of wish.images) {
        if (this.count('running') >= this.#limits.atOnce) return begun;
        const entry = this.#entries.get(image);
        if (entry?.state !== 'waiting' || this.#running(wish) >= wish.atOnce) continue;
        entry.state = 'running';
        begun.push(image);
      }
    return begun;
  }

  join(image: string): void {
    const entry = this.#entries.get(image);
    if (entry !== undefined) entry.joined += 1;
  }

  leave(image: string): void {
    const entry = this.#entries.get(image);
    if (entry !== undefined) entry.joined -= 1;
  }

  isJoined(image: string): boolean {
    return (this.#entries.get(image)?.joined ?? 0) > 0;
  }

  /** The work was paused. Gives whether somebody still wants it. */
  paused(image: string): boolean {
    return this.#settle(image, 'waiting');
  }

  /** Warm, and waiting for its pull. Gives whether somebody still wants it. */
  held(image: string, nowMs: number): boolean {
    const entry = this.#entries.get(image);
    if (entry !== undefined) entry.heldUntilMs = nowMs + this.#limits.holdMs;
    return this.#settle(image, 'held');
  }

  /** Nothing more is to be done. `refused`: unless other credentials turn up. */
  over(image: string, refused = false): void {
    const entry = this.#entries.get(image);
    if (entry !== undefined) entry.refused = refused;
    this.#settle(image, 'over');
  }

  /** Those that waited for their pull in vain; they are over. */
  expire(nowMs: number): string[] {
    const expired = [...this.#entries].filter(
      ([, entry]) => entry.state === 'held' && entry.heldUntilMs <= nowMs,
    );
    for (const [, entry] of expired) entry.state = 'over';
    return expired.map(([image]) => image);
  }

  /** When the next one expires. */
  get nextExpiryMs(): number | undefined {
    const times = [...this.#entries.values()].flatMap(({ state, heldUntilMs }) =>
      state === 'held' ? [heldUntilMs] : [],
    );
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** New credentials for a namespace: its refused images of this registry are tried once more. */
  reconsider(namespace: string, isOfRegistry: (image: string) => boolean): void {
    for (const [image, entry] of this.#entries) {
      if (entry.state !== 'over' || !entry.refused || !isOfRegistry(image)) continue;
      if (this.wishesFor(image).some((wish) => wish.namespace === namespace)) entry.state = 'waiting';
    }
  }

  #settle(image: string, state: WarmState): boolean {
    const entry = this.#entries.get(image);
    if (entry === undefined) return false;
    entry.state = state;
    if (entry.wantedBy.size > 0 || entry.joined > 0) return true;
    this.#entries.delete(image);
    return false;
  }

  #running(wish: WarmWish): number {
    return wish.images.filter((image) => this.stateOf(image) === 'running').length;
  }

  #add(image: string): Entry | undefined {
    if (this.#entries.size >= WARM_IMAGES_MAX) return undefined;
    const entry: Entry = {
      wantedBy: new Set(),
      state: 'waiting',
      heldUntilMs: 0,
      refused: false,
      joined: 0,
    };
    this.#entries.set(image, entry);
    return entry;
  }
}
