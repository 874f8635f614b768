/**
 * A rogue agent as a process of its own: it has a valid certificate and every digest that is told around, and wants the
 * bytes of a blob that its registry would not give it. Asks `holder` for every chunk again and again, and tells its parent
 * every so often what it got. What else it tries is its trick:
 * - `asks`: nothing.
 * - `guesses`: proofs that follow from digests, and made-up answers to challenges.
 * - `relays`: offers the blob to `victim`, which may read it, hands the proofs and answers that it gets of it to the
 *   holder, and puts the holder's challenges to it.
 * - `entitled`: the right documents. It shows that this program gets the bytes when it may have them.
 */
import { randomBytes } from 'node:crypto';
import type { AddressInfo, Socket } from 'node:net';
import type { BlobKey } from '../../shim/base/blob-key.ts';
import { encodeHello, FrameType, type Hello, parseHello } from '../../shim/peer/frame.ts';
import { FrameReader } from '../../shim/peer/frame-reader.ts';
import { encodeMessage, parseMessage } from '../../shim/peer/message-codec.ts';
import { type PeerTransport, plainTransport } from '../../shim/peer/peer-transport.ts';
import { blobSecretOf, proofBySecret, readRightOf } from '../../shim/peer/read-right.ts';
import {
  encodeRightMessage,
  isRightFrame,
  parseRightMessage,
  type RightMessage,
} from '../../shim/peer/right-messages.ts';
import type { TlsFiles } from '../../shim/peer/tls-files.ts';
import { openTlsTransport } from '../../shim/peer/tls-transport.ts';
import { chunkCountOf } from '../../shim/swarm/limits.ts';
import type { PeerMessage } from '../../shim/swarm/messages.ts';

export interface RogueOrder {
  readonly trick: 'asks' | 'guesses' | 'relays' | 'entitled';
  readonly holder: string;
  readonly victim: string;
  readonly key: BlobKey;
  readonly sizeBytes: number;
  readonly tls: TlsFiles | undefined;
  /** For `entitled`: the documents; for `guesses`: what is made of digests. */
  readonly documents: readonly string[];
}

export interface RogueReport {
  chunkBytes: number;
  requests: number;
  refusals: number;
  bitmaps: number;
  challenges: number;
  proofsSent: number;
  /** Proofs and answers that the victim gave. */
  caught: number;
}

type OnHello = (own: Hello, theirs: Hello) => void;

/** How long the rogue waits before it asks for everything again. */
const AGAIN_MS = 100;

class Rogue {
  readonly report: RogueReport = {
    chunkBytes: 0,
    requests: 0,
    refusals: 0,
    bitmaps: 0,
    challenges: 0,
    proofsSent: 0,
    caught: 0,
  };
  readonly #order: RogueOrder;
  readonly #transport: PeerTransport;
  #self = '';
  #holder: Socket | undefined;
  readonly #victims = new Set<Socket>();

  constructor(order: RogueOrder, transport: PeerTransport) {
    this.#order = order;
    this.#transport = transport;
  }

  /** Gives the name under which it listens. */
  async start(): Promise<string> {
    const server = this.#transport.createServer();
    server.on(this.#transport.readyEvent, (socket: Socket) => {
      const reader = this.#greet(socket, undefined);
      socket.on('data', (bytes: Buffer) => reader.feed(bytes));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    this.#self = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    return this.#self;
  }

  attack(): void {
    this.#holder = this.#dial(this.#order.holder, (own, theirs) => this.#begin(own, theirs));
    if (this.#order.trick === 'relays') this.#dial(this.#order.victim, undefined);
  }

  #dial(peer: string, onHello: OnHello | undefined): Socket {
    const scratch = Buffer.allocUnsafeSlow(64 * 1024);
    let reader: FrameReader | undefined;
    const socket = this.#transport.connect({
      host: '127.0.0.1',
      port: Number(peer.split(':')[1]),
      nextBuffer: () => scratch,
      onRead: (bytes) => {
        reader?.feed(bytes);
        return true;
      },
    });
    reader = this.#greet(socket, onHello);
    return socket;
  }

  /** Says hello, and acts by who answers: the holder is robbed, everybody else is a victim to be listened to. */
  #greet(socket: Socket, onHello: OnHello | undefined): FrameReader {
    const { key, sizeBytes, holder } = this.#order;
    const nonce = randomBytes(16);
    const own: Hello = {
      versionMin: 1,
      versionMax: 1,
      self: this.#self,
      zone: '',
      nodeName: 'rogue',
      nonce,
      role: 1,
    };
    let peer = '';
    socket.on('error', () => undefined);
    socket.on('close', () => this.#victims.delete(socket));
    socket.write(encodeHello(own));
    return new FrameReader({
      onControl: (type, payload) => {
        if (type === FrameType.hello) {
          const theirs = parseHello(payload);
          peer = theirs.self;
          onHello?.(own, theirs);
          if (peer === holder) return;
          this.#victims.add(socket);
          const told = { chunksHeld: this.#count, complete: true, leasesWanted: 0, missing: [], leased: [] };
          this.#tell(socket, {
            kind: 'announce',
            key,
            sizeBytes,
            ...told,
            held: this.#held(),
            ttlMs: 60_000,
            zone: '',
          });
        } else if (isRightFrame(type)) this.#onRight(peer, parseRightMessage(type, payload));
        else if (peer === holder) this.#onMessage(parseMessage(type, payload));
        else this.#deceive(socket, parseMessage(type, payload));
      },
      onChunk: (_requestId, _chunk, lengthBytes) => {
        this.report.chunkBytes += lengthBytes;
        return undefined;
      },
    });
  }

  #begin(own: Hello, theirs: Hello): void {
    const { trick, documents, key, sizeBytes, holder } = this.#order;
    if (trick === 'guesses' || trick === 'entitled') {
      const right = readRightOf(
        documents.map((text) => Buffer.from(text)),
        false,
      );
      const binding = (this.#holder && this.#transport.identify(this.#holder)?.binding) ?? new Uint8Array(0);
      const session = {
        asker: this.#self,
        holder,
        askerNonce: own.nonce,
        holderNonce: theirs.nonce,
        binding,
      };
      this.#prove({ kind: 'prove', key, proofs: [proofBySecret(blobSecretOf(right, key), key, session)] });
    }
    if (trick === 'guesses') this.#prove({ kind: 'prove', key, proofs: [randomBytes(32)] });
    this.#say({ kind: 'follow', key, sizeBytes });
    this.#askForAll();
    setInterval(() => this.#askForAll(), AGAIN_MS).unref();
  }

  #askForAll(): void {
    const { key, sizeBytes } = this.#order;
    for (let chunk = 0; chunk < chunkCountOf(sizeBytes); chunk++)
      this.#say({ kind: 'request', requestId: ++this.report.requests, key, chunk });
  }

  #onMessage(message: PeerMessage): void {
    if (message.kind === 'busy' || message.kind === 'gone') this.report.refusals += 1;
    if (message.kind === 'bitmap') this.report.bitmaps += 1;
  }

  #onRight(peer: string, message: RightMessage): void {
    if (peer !== this.#order.holder) {
      this.report.caught += 1;
      this.#prove(message);
    } else if (message.kind === 'challenge') {
      this.report.challenges += 1;
      const { key, nonce } = message;
      if (this.#order.trick === 'guesses')
        this.#prove({ kind: 'answer', key, nonce, proof: randomBytes(32) });
      for (const victim of this.#victims) victim.write(encodeRightMessage(message));
    }
  }

  #prove(message: RightMessage): void {
    this.report.proofsSent += 1;
    this.#holder?.write(encodeRightMessage(message));
  }

  #say(message: PeerMessage): void {
    if (this.#holder !== undefined) this.#tell(this.#holder, message);
  }

  #tell(socket: Socket, message: PeerMessage): void {
    socket.write(encodeMessage(message));
  }

  /** Plays a holder of the whole blob to somebody who may have it. */
  #deceive(socket: Socket, { kind }: PeerMessage): void {
    const { key } = this.#order;
    const holders = [{ peer: this.#self, zone: '', complete: true }];
    if (kind === 'announce')
      this.#tell(socket, { kind: 'directory', key, holders, leases: [], imports: [], hashes: [] });
    if (kind === 'follow') this.#tell(socket, { kind: 'bitmap', key, held: this.#held(), hashes: [] });
  }

  get #count(): number {
    return chunkCountOf(this.#order.sizeBytes);
  }

  #held(): Uint8Array {
    const held = new Uint8Array((this.#count + 7) >> 3);
    for (let chunk = 0; chunk < this.#count; chunk++)
      held[chunk >> 3] = (held[chunk >> 3] ?? 0) | (1 << (chunk & 7));
    return held;
  }
}

if (process.send !== undefined && process.argv[2] !== undefined) {
  const order = JSON.parse(process.argv[2]) as RogueOrder;
  const transport =
    order.tls === undefined
      ? plainTransport
      : await openTlsTransport({ files: order.tls, onReload: () => undefined });
  const rogue = new Rogue(order, transport);
  process.send({ self: await rogue.start() });
  process.once('message', () => rogue.attack());
  setInterval(() => process.send?.({ report: rogue.report }), AGAIN_MS);
  process.once('disconnect', () => process.exit());
}
