import { createHash, randomBytes } from 'node:crypto';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { BlobKey } from '../../shim/base/blob-key.ts';
import { encodeChunkHead, encodeHello, FrameType, parseHello } from '../../shim/peer/frame.ts';
import { type FrameHandler, FrameReader } from '../../shim/peer/frame-reader.ts';
import { encodeMessage, parseMessage } from '../../shim/peer/message-codec.ts';
import { isRightFrame } from '../../shim/peer/right-messages.ts';
import { CHUNK_SIZE_BYTES, chunkCountOf } from '../../shim/swarm/limits.ts';
import type { HashRun, PeerMessage } from '../../shim/swarm/messages.ts';
import type { SampleBlob } from './blob-origin.ts';

/**
 * silent: takes connections and says nothing. mute: says hello and nothing more. lying: sends other bytes than the hashes
 * say. poisoning: sends other bytes and hashes that fit them. slow: sends a chunk byte by byte. flaky: hangs up within a chunk.
 * oversize: answers with a frame of 1 GiB. garbage: answers with noise.
 */
export type Badness = 'silent' | 'mute' | 'lying' | 'poisoning' | 'slow' | 'flaky' | 'oversize' | 'garbage';

/** A peer that claims to hold all of one blob and misbehaves in one way when it is asked. A real server. */
export class BadPeer {
  readonly badness: Badness;
  readonly #server: Server = createServer((socket) => this.#accept(socket));
  readonly #sockets = new Set<Socket>();
  readonly #key: BlobKey;
  readonly #bytes: Buffer;
  readonly #hashes: HashRun[];
  readonly #timers = new Set<NodeJS.Timeout>();
  connections = 0;
  requests = 0;

  static async start(badness: Badness, blob: SampleBlob, host: string): Promise<BadPeer> {
    const peer = new BadPeer(badness, blob, host);
    await new Promise<void>((resolve) => peer.#server.listen(0, '127.0.0.1', resolve));
    return peer;
  }

  private constructor(badness: Badness, blob: SampleBlob, host: string) {
    this.badness = badness;
    this.#key = { host, digest: blob.digest };
    this.#bytes =
      badness === 'lying' || badness === 'poisoning' ? randomBytes(blob.bytes.length) : blob.bytes;
    this.#hashes = [{ firstChunk: 0, hashes: hashesOf(badness === 'poisoning' ? this.#bytes : blob.bytes) }];
  }

  get self(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Dials a node, so that it knows of this peer whatever the ranks of the two are. */
  visit(node: string): Promise<void> {
    const socket = connect(Number(node.split(':')[1]), '127.0.0.1');
    this.#accept(socket);
    // The node's hello shows that it has a place for us.
    return new Promise((resolve) => socket.once('data', () => resolve()));
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(socket: Socket): void {
    this.connections += 1;
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => this.#sockets.delete(socket));
    if (this.badness === 'silent') return;
    const reader = new FrameReader(this.#handler(socket));
    socket.on('data', (bytes) => reader.feed(bytes as Buffer));
    const about = { self: this.self, zone: '', nodeName: this.badness };
    socket.write(encodeHello({ versionMin: 1, versionMax: 1, ...about, nonce: new Uint8Array(16), role: 1 }));
    if (this.badness !== 'mute') this.#send(socket, this.#announce());
  }

  #handler(socket: Socket): FrameHandler {
    return {
      onControl: (type, payload) => {
        if (type === FrameType.hello) parseHello(payload);
        else if (isRightFrame(type)) return;
        else if (this.badness !== 'mute') this.#answer(socket, parseMessage(type, payload));
      },
      onChunk: () => undefined,
    };
  }

  #answer(socket: Socket, message: PeerMessage): void {
    const key = this.#key;
    if (message.kind === 'announce') {
      const holders = [{ peer: this.self, zone: '', complete: true }];
      this.#send(socket, { kind: 'directory', key, holders, leases: [], imports: [], hashes: this.#hashes });
    }
    if (message.kind === 'follow')
      this.#send(socket, { kind: 'bitmap', key, held: this.#held(), hashes: this.#hashes });
    if (message.kind === 'request') this.#serve(socket, message.requestId, message.chunk);
  }

  #serve(socket: Socket, requestId: number, chunk: number): void {
    this.requests += 1;
    const bytes = this.#bytes.subarray(chunk * CHUNK_SIZE_BYTES, (chunk + 1) * CHUNK_SIZE_BYTES);
    const head = encodeChunkHead(requestId, chunk, bytes.length);
    switch (this.badness) {
      case 'slow':
        socket.write(head);
        this.#timers.add(setInterval(() => socket.writable && socket.write(Buffer.from([0])), 50));
        return;
      case 'flaky':
        socket.write(head);
        socket.write(bytes.subarray(0, bytes.length / 2), () => socket.destroy());
        return;
      case 'oversize':
        head.writeUInt32BE(2 ** 30, 0);
        socket.write(head);
        return;
      case 'garbage':
        socket.write(randomBytes(5000));
        return;
      default:
        socket.write(head);
        socket.write(bytes);
    }
  }

  #announce(): PeerMessage {
    const sizeBytes = this.#bytes.length;
    const chunksHeld = chunkCountOf(sizeBytes);
    const told = { chunksHeld, complete: true, leasesWanted: 0, missing: [], leased: [], held: this.#held() };
    return { kind: 'announce', key: this.#key, sizeBytes, ...told, ttlMs: 60_000, zone: '' };
  }

  #held(): Uint8Array {
    const count = chunkCountOf(this.#bytes.length);
    const held = new Uint8Array((count + 7) >> 3);
    for (let chunk = 0; chunk < count; chunk++)
      held[chunk >> 3] = (held[chunk >> 3] ?? 0) | (1 << (chunk & 7));
    return held;
  }

  #send(socket: Socket, message: PeerMessage): void {
    socket.write(encodeMessage(message));
  }
}

function hashesOf(bytes: Buffer): Uint8Array[] {
  const hashes: Uint8Array[] = [];
  for (let offset = 0; offset < bytes.length; offset += CHUNK_SIZE_BYTES)
    hashes.push(
      createHash('sha256')
        .update(bytes.subarray(offset, offset + CHUNK_SIZE_BYTES))
        .digest(),
    );
  return hashes;
}
