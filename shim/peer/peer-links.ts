import type { Server, Socket } from 'node:net';
import { ErrorCode, type ShoalError } from '../base/errors.ts';
import type { PeerId, PeerMessage } from '../swarm/messages.ts';
import { protocolError } from './byte-codec.ts';
import type { ChunkBufferPool } from './chunk-buffer-pool.ts';
import { PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN } from './frame.ts';
import type { ChunkTarget } from './frame-reader.ts';
import { KnownMembers } from './known-members.ts';
import type { PeerMember } from './membership.ts';
import { isPeerId } from './message-codec.ts';
import { speaksFor, splitPeerId } from './peer-address.ts';
import { type ConnectionEvents, type OwnHello, PeerConnection, unavailable } from './peer-connection.ts';
import type { PeerTransport } from './peer-transport.ts';
import type { Session } from './read-right.ts';
import type { RightMessage } from './right-messages.ts';
import { NodeRole } from './root-watch.ts';
import type { TransferCounters } from './transfer-counters.ts';

/** Peers that are members no longer are looked for this often. */
const STRANGER_CHECK_MS = 10_000;

/** What came in over all links, one peer at a time. */
export interface LinkEvents {
  onConnected(peer: PeerId, zone: string, role: NodeRole): void;
  onDisconnected(peer: PeerId, reason: ShoalError): void;
  onMessage(peer: PeerId, message: PeerMessage): void;
  /** `session` is the connection that it came over, with the peer as the asker. */
  onRight(peer: PeerId, message: RightMessage, session: Session): void;
  onChunk(peer: PeerId, requestId: number, chunk: number, lengthBytes: number): ChunkTarget | undefined;
}

export interface PeerLinksOptions {
  readonly self: PeerId;
  readonly zone: string;
  readonly nodeName: string;
  readonly role: () => NodeRole;
  /** Listening already, see `listenForPeers`; closed together with the links. */
  readonly server: Server;
  /** A peer must connect from the address that its name has. */
  readonly verifyAddress: boolean;
  readonly transport: PeerTransport;
  readonly pool: ChunkBufferPool;
  readonly counters: TransferCounters;
  readonly dialTimeoutMs: number;
  readonly connectionsMax: number;
  readonly events: LinkEvents;
}

/**
 * A peer that we can talk to: one connection, or one in each direction. Messages go over the one we dialled, chunks
 * over the one they dialled, so that chunks always arrive on connections whose reads need no copying.
 */
interface Link {
  readonly peer: PeerId;
  dialled: PeerConnection | undefined;
  accepted: PeerConnection | undefined;
  /** It was dialled for the sake of messages to it; once is enough where nobody answers. */
  isDialledBack: boolean;
}

/** All connections of this node, by peer. */
export class PeerLinks {
  readonly #options: PeerLinksOptions;
  readonly #links = new Map<PeerId, Link>();
  /** Dials that have not been answered with a hello. */
  readonly #dials = new Map<PeerId, PeerConnection>();
  readonly #connections = new Set<PeerConnection>();
  readonly #own: Omit<OwnHello, 'role'>;
  readonly #members = new KnownMembers();
  readonly #strangerTimer: NodeJS.Timeout;
  #closing = false;

  constructor(options: PeerLinksOptions) {
    this.#options = options;
    this.#own = {
      versionMin: PROTOCOL_VERSION_MIN,
      versionMax: PROTOCOL_VERSION_MAX,
      self: options.self,
      zone: options.zone,
      nodeName: options.nodeName,
    };
    options.server.on(options.transport.readyEvent, (socket: Socket) => this.#accept(socket));
    this.#strangerTimer = setInterval(() => this.#dropStrangers(), STRANGER_CHECK_MS);
    this.#strangerTimer.unref();
  }

  setMembers(members: readonly PeerMember[]): void {
    this.#members.set(members);
  }

  get connectionCount(): number {
    return this.#connections.size;
  }

  dial(peer: PeerId): void {
    const link = this.#links.get(peer);
    if (this.#closing || this.#dials.has(peer) || link?.dialled !== undefined) return;
    const address = splitPeerId(peer);
    if (address === undefined || peer === this.#options.self || this.#isFull()) {
      this.#options.events.onDisconnected(peer, unavailable('it cannot be dialled'));
      return;
    }
    this.#options.counters.dials += 1;
    const connection = PeerConnection.dial(
      address.host,
      address.port,
      this.#connectionOptions(this.#dialEvents(peer)),
    );
    this.#connections.add(connection);
    this.#dials.set(peer, connection);
  }

  /** False when there is no connection to the peer. */
  send(peer: PeerId, message: PeerMessage): boolean {
    const link = this.#links.get(peer);
    if (link === undefined) return false;
    // The answer comes back on the connection that is asked on, and only those we dialled read without copying.
    if (message.kind === 'request' && link.dialled === undefined) this.dial(peer);
    (link.dialled ?? link.accepted)?.send(message);
    return true;
  }

  isConnected(peer: PeerId): boolean {
    return this.#links.has(peer);
  }

  /** Sends what `make` gives for the connection that messages to the peer take, with this node as the asker. */
  sendRight(peer: PeerId, make: (session: Session) => RightMessage | undefined): void {
    const link = this.#links.get(peer);
    const connection = link?.dialled ?? link?.accepted;
    if (connection?.hello === undefined) return;
    const message = make({
      asker: this.#options.self,
      holder: peer,
      askerNonce: connection.ownNonce,
      holderNonce: connection.hello.nonce,
      binding: bindingOf(connection),
    });
    if (message !== undefined) connection.sendRight(message);
  }

  /** Sends what `frameChunk` made; resolves when its buffer may be used again. */
  async sendChunk(peer: PeerId, frame: Buffer): Promise<boolean> {
    const link = this.#links.get(peer);
    const connection = link?.accepted ?? link?.dialled;
    if (link !== undefined && link.dialled === undefined) this.#dialBack(link);
    return (await connection?.sendChunk(frame)) ?? false;
  }

  /** Closes all connections to the peer; `onDisconnected` is not called for it. */
  hangUp(peer: PeerId, reason: ShoalError): void {
    const link = this.#links.get(peer);
    this.#links.delete(peer);
    this.#dials.get(peer)?.close(reason);
    this.#dials.delete(peer);
    link?.dialled?.close(reason);
    link?.accepted?.close(reason);
  }

  async close(): Promise<void> {
    this.#closing = true;
    clearInterval(this.#strangerTimer);
    for (const connection of this.#connections) connection.close(unavailable('this node is shutting down'));
    await new Promise<void>((resolve) => this.#options.server.close(() => resolve()));
  }

  /** Messages would wait behind the chunks: on a slow link for longer than a directory may be silent. Half of all places are for those who come. */
  #dialBack(link: Link): void {
    if (link.isDialledBack || this.#connections.size >= this.#options.connectionsMax / 2) return;
    link.isDialledBack = true;
    this.dial(link.peer);
  }

  #isFull(): boolean {
    return this.#connections.size >= this.#options.connectionsMax;
  }

  #connectionOptions(events: ConnectionEvents) {
    const { transport, pool, dialTimeoutMs } = this.#options;
    const own = { ...this.#own, role: this.#options.role() };
    return { transport, own, events, pool, helloTimeoutMs: dialTimeoutMs };
  }

  #accept(socket: Socket): void {
    if (this.#closing || this.#isFull()) {
      socket.destroy();
      return;
    }
    this.#connections.add(PeerConnection.accept(socket, this.#connectionOptions(this.#acceptEvents())));
  }

  #dialEvents(peer: PeerId): ConnectionEvents {
    return {
      ...this.#sharedEvents(),
      onHello: (connection, hello) => {
        if (hello.self !== peer) throw protocolError('another peer answers at its address');
        this.#checkIdentity(connection, peer);
        if (this.#dials.get(peer) === connection) this.#dials.delete(peer);
        this.#attach(peer, connection);
      },
      onClose: (connection, error) => {
        const isDial = this.#dials.get(peer) === connection;
        if (isDial) {
          this.#dials.delete(peer);
          this.#options.counters.dialErrors += 1;
        }
        this.#detach(connection, error);
        // A second connection that cannot be had changes nothing about the first one.
        if (isDial && !this.#links.has(peer)) this.#options.events.onDisconnected(peer, error);
      },
    };
  }

  #acceptEvents(): ConnectionEvents {
    return {
      ...this.#sharedEvents(),
      onHello: (connection, hello) => {
        if (!isPeerId(hello.self) || hello.self === this.#options.self)
          throw protocolError('its name is not a peer’s');
        if (this.#options.verifyAddress && !speaksFor(connection.remoteAddress, hello.self))
          throw protocolError('it connects from another address than it names');
        this.#checkIdentity(connection, hello.self);
        this.#attach(hello.self, connection);
      },
      onClose: (connection, error) => this.#detach(connection, error),
    };
  }

  /** With certificates: it must have one for this name, and be a member, or one that membership has yet to tell of. */
  #checkIdentity(connection: PeerConnection, peer: PeerId): void {
    if (!this.#options.transport.isSecure) return;
    if (connection.identity?.mayBe(peer, this.#members.namesOf(peer)) !== true)
      throw protocolError('its certificate is not for the address that it names');
    if (!this.#members.admits(peer, performance.now())) throw protocolError('it is not a member');
  }

  #dropStrangers(): void {
    if (!this.#options.transport.isSecure) return;
    for (const peer of [...this.#links.keys()]) {
      if (this.#members.admits(peer, performance.now())) continue;
      const reason = unavailable('it is not a member');
      this.hangUp(peer, reason);
      this.#options.events.onDisconnected(peer, reason);
    }
  }

  #sharedEvents() {
    const { events } = this.#options;
    return {
      onMessage: (connection: PeerConnection, message: PeerMessage) => {
        const peer = this.#peerOf(connection);
        if (peer !== undefined) events.onMessage(peer, message);
      },
      onRight: (connection: PeerConnection, message: RightMessage) => {
        const peer = this.#peerOf(connection);
        if (peer !== undefined) events.onRight(peer, message, this.#sessionWith(peer, connection));
      },
      onChunk: (connection: PeerConnection, requestId: number, chunk: number, lengthBytes: number) => {
        const peer = this.#peerOf(connection);
        return peer === undefined ? undefined : events.onChunk(peer, requestId, chunk, lengthBytes);
      },
    };
  }

  #sessionWith(asker: PeerId, connection: PeerConnection): Session {
    const askerNonce = connection.hello?.nonce ?? new Uint8Array(0);
    const binding = bindingOf(connection);
    return { asker, holder: this.#options.self, askerNonce, holderNonce: connection.ownNonce, binding };
  }

  #attach(peer: PeerId, connection: PeerConnection): void {
    const known = this.#links.get(peer);
    const link = known ?? { peer, dialled: undefined, accepted: undefined, isDialledBack: false };
    const side = connection.dialled ? 'dialled' : 'accepted';
    const before = link[side];
    link[side] = connection;
    this.#links.set(peer, link);
    // A peer that restarted connects again before its old connection is known to be dead.
    before?.close(unavailable('it connected again'));
    const { zone = '', role = NodeRole.Agent } = connection.hello ?? {};
    if (known === undefined) this.#options.events.onConnected(peer, zone, role);
  }

  /** The end of one connection ends the link: what was under way on it is lost, and the core must know. */
  #detach(connection: PeerConnection, error: ShoalError): void {
    this.#connections.delete(connection);
    if (error.code === ErrorCode.PeerProtocol) this.#options.counters.protocolErrors += 1;
    const peer = this.#peerOf(connection);
    if (peer === undefined) return;
    this.hangUp(peer, error);
    this.#options.events.onDisconnected(peer, error);
  }

  #peerOf(connection: PeerConnection): PeerId | undefined {
    const peer = connection.hello?.self;
    if (peer === undefined) return undefined;
    const link = this.#links.get(peer);
    return link?.dialled === connection || link?.accepted === connection ? peer : undefined;
  }
}

function bindingOf(connection: PeerConnection): Uint8Array {
  return connection.identity?.binding ?? new Uint8Array(0);
}
