import type { BlobKey } from '../base/blob-key.ts';
import { BanList } from './ban-list.ts';
import type { BlobSwarm } from './blob-swarm.ts';
import type { OriginLimits } from './budget-bucket.ts';
import { ConsumerPace } from './consumer-pace.ts';
import { type SwarmLimits, swarmLimits } from './limits.ts';
import type { Action, PeerId, PeerMessage } from './messages.ts';
import { OriginBudget } from './origin-budget.ts';
import { OriginGate } from './origin-gate.ts';
import { PeerTable } from './peer-table.ts';
import { Prng } from './prng.ts';
import { RequestTable } from './request-table.ts';
import { UploadSlots } from './upload-slots.ts';

/** What the parts of one node share. */
export class SwarmContext {
  readonly self: PeerId;
  readonly zone: string;
  mayReadOrigin: boolean;
  readonly limits: SwarmLimits;
  readonly prng: Prng;
  readonly bans: BanList;
  readonly peers: PeerTable;
  readonly requests: RequestTable;
  readonly uploads: UploadSlots;
  readonly gate: OriginGate;
  readonly budget: OriginBudget;
  readonly pace: ConsumerPace;
  /** Messages of this node to itself (it may be its own directory), delivered before the input that caused them ends. */
  readonly toSelf: PeerMessage[] = [];
  /** Blobs with chunks missing, in the order in which they were wanted: so they get requests and leases. */
  readonly pulling = new Set<BlobSwarm>();
  /** Earliest time at which something is due; may be early, never late. */
  wakeMs = Number.POSITIVE_INFINITY;
  /** When this node last got a chunk of any blob, or began to want one. */
  lastChunkMs = Number.NEGATIVE_INFINITY;
  readonly #actions: Action[] = [];
  #head = 0;

  constructor(options: {
    readonly self: PeerId;
    readonly zone: string;
    readonly seed: number;
    readonly mayReadOrigin: boolean;
    readonly limits?: Partial<SwarmLimits>;
    readonly originLimits?: OriginLimits;
  }) {
    this.self = options.self;
    this.zone = options.zone;
    this.mayReadOrigin = options.mayReadOrigin;
    this.limits = swarmLimits(options.limits);
    this.prng = new Prng(options.seed);
    this.bans = new BanList(this.limits);
    this.peers = new PeerTable({
      self: this.self,
      limits: this.limits,
      bans: this.bans,
      emit: (action) => this.emit(action),
    });
    this.requests = new RequestTable(this.limits);
    this.uploads = new UploadSlots(this.limits);
    this.gate = new OriginGate(this.limits);
    this.pace = new ConsumerPace(this.limits);
    this.budget = new OriginBudget(this, options.originLimits);
  }

  /** No other member: nobody to wait for. */
  get isAlone(): boolean {
    return this.peers.othersCount === 0;
  }

  /** Whether the peer is known to be in another zone. */
  isFar(peer: PeerId): boolean {
    const zone = this.peers.zoneOf(peer);
    return this.zone !== '' && zone !== '' && zone !== this.zone;
  }

  emit(action: Action): void {
    this.#actions.push(action);
  }

  /** Sends when connected (or to this node itself); else the message is dropped: all state is told again in time. */
  send(peer: PeerId, message: PeerMessage): void {
    if (peer === this.self) this.toSelf.push(message);
    else if (this.peers.isConnected(peer)) this.#actions.push({ kind: 'send', peer, message });
  }

  note(event: string, peer: PeerId | undefined, key: BlobKey | undefined, detail = ''): void {
    this.#actions.push({ kind: 'note', event, peer, key, detail });
  }

  /** A peer said what makes no sense: told to the log, and counted as a failure of that peer. */
  faulty(peer: PeerId, key: BlobKey | undefined, detail: string): void {
    this.note('malformed', peer, key, detail);
  }

  pollAction(): Action | undefined {
    const action = this.#actions[this.#head];
    if (action === undefined) return undefined;
    this.#head++;
    if (this.#head === this.#actions.length) {
      this.#actions.length = 0;
      this.#head = 0;
    }
    return action;
  }
}
