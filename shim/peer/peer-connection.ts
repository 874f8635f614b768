import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { ErrorCode, isShoalError, nodeErrorCode, ShoalError } from '../base/errors.ts';
import type { PeerMessage } from '../swarm/messages.ts';
import { protocolError } from './byte-codec.ts';
import type { ChunkBufferPool } from './chunk-buffer-pool.ts';
import { agreeOnVersion, encodeHello, FrameType, type Hello, NONCE_BYTES, parseHello } from './frame.ts';
import { type ChunkTarget, type FrameHandler, FrameReader } from './frame-reader.ts';
import { encodeMessage, parseMessage } from './message-codec.ts';
import { keepUnsentShort, type PeerIdentity, type PeerTransport } from './peer-transport.ts';
import { encodeRightMessage, isRightFrame, parseRightMessage, type RightMessage } from './right-messages.ts';

/** Unsent bytes at which a peer counts as not reading: all upload slots filled for it, and control traffic. */
const UNSENT_BYTES_MAX = 32 * 1024 * 1024;
/** Longest time for one chunk to leave; as long as the asking side waits for one. */
const SEND_TIMEOUT_MS = 30_000;

/** While a chunk arrives, fewer bytes than this in one interval end the connection: 256 kbit/s is no peer, the origin is faster. */
const PROGRESS_BYTES_MIN = 64 * 1024;
const PROGRESS_INTERVAL_MS = 2_000;
/** For bytes that are in the kernel already. */
const LAST_LOOK_MS = 50;

/** As much as is hashed at a time; 10 ms of a link of 100 Mbit/s. */
const GATHERED_BYTES = 128 * 1024;

/** What the owner of a connection does with what comes in. Errors thrown here end the connection. */
export interface ConnectionEvents {
  onHello(connection: PeerConnection, hello: Hello): void;
  onMessage(connection: PeerConnection, message: PeerMessage): void;
  onRight(connection: PeerConnection, message: RightMessage): void;
  onChunk(
    connection: PeerConnection,
    requestId: number,
    chunk: number,
    lengthBytes: number,
  ): ChunkTarget | undefined;
  /** Called once, also when the dial failed. */
  onClose(connection: PeerConnection, error: ShoalError): void;
}

/** What a node says of itself on every connection. */
export type OwnHello = Omit<Hello, 'nonce'>;

interface ConnectionOptions {
  readonly transport: PeerTransport;
  readonly own: OwnHello;
  readonly events: ConnectionEvents;
  /** While it is full the connection does not read. */
  readonly pool: ChunkBufferPool;
  /** Dial and hello together take no longer. */
  readonly helloTimeoutMs: number;
}

/** One TCP connection between two peers, from hello to close. */
export class PeerConnection implements FrameHandler {
  /** We opened it: bytes of chunks come in on such connections without being copied. */
  readonly dialled: boolean;
  /** What the other side said of itself. */
  hello: Hello | undefined;
  /** What it has proven of itself; undefined before its hello, and always in plain text. */
  identity: PeerIdentity | undefined;
  readonly ownNonce = randomBytes(NONCE_BYTES);
  readonly #transport: PeerTransport;
  readonly #events: ConnectionEvents;
  readonly #pool: ChunkBufferPool;
  readonly #reader = new FrameReader(this);
  #helloTimer: NodeJS.Timeout;
  readonly #socket: Socket;
  /** Runs while a chunk arrives. */
  #progressTimer: NodeJS.Timeout | undefined;
  #progressBytes = 0;
  /** What the next read waits for. */
  #gatheredBytes = 1;
  /** Of the chunks that have not left, which leave in this order. */
  readonly #sendsStartedMs: number[] = [];
  /** One for all chunks: it ends, or is set anew, when it goes off. */
  #sendTimer: NodeJS.Timeout | undefined;
  #reason: ShoalError | undefined;
  #closed = false;

  static dial(host: string, port: number, options: ConnectionOptions): PeerConnection {
    return new PeerConnection(options, true, (connection) =>
      options.transport.connect({
        host,
        port,
        nextBuffer: () => connection.#reader.nextBuffer(),
        onRead: (bytes) => connection.#read(bytes),
      }),
    );
  }

  static accept(socket: Socket, options: ConnectionOptions): PeerConnection {
    return new PeerConnection(options, false, (connection) =>
      socket.on('data', (bytes: Buffer) => {
        if (!connection.#read(bytes)) socket.pause();
      }),
    );
  }

  private constructor(
    options: ConnectionOptions,
    dialled: boolean,
    makeSocket: (connection: PeerConnection) => Socket,
  ) {
    this.dialled = dialled;
    this.#transport = options.transport;
    this.#events = options.events;
    this.#pool = options.pool;
    this.#socket = makeSocket(this);
    this.#helloTimer = setTimeout(() => this.#lookForHello(options.helloTimeoutMs), options.helloTimeoutMs);
    this.#socket.on('error', (error) => {
      this.#reason ??= unavailable(nodeErrorCode(error) ?? 'the connection broke');
    });
    this.#socket.on('close', () => this.#onClose());
    this.#socket.write(encodeHello({ ...options.own, nonce: this.ownNonce }));
  }

  get remoteAddress(): string | undefined {
    return this.#socket.remoteAddress;
  }

  get isClosed(): boolean {
    return this.#closed || this.#reason !== undefined;
  }

  send(message: PeerMessage): void {
    this.#sendFrame(encodeMessage(message));
  }

  sendRight(message: RightMessage): void {
    this.#sendFrame(encodeRightMessage(message));
  }

  /** Sends what `frameChunk` made. Resolves when it has left and the buffer may be used again; true when it was sent. */
  sendChunk(frame: Buffer): Promise<boolean> {
    if (this.isClosed) return Promise.resolve(false);
    return new Promise((resolve) => {
      this.#sendsStartedMs.push(performance.now());
      if (this.#sendTimer === undefined) this.#watchSends(SEND_TIMEOUT_MS);
      this.#socket.write(frame, (error) => {
        this.#sendsStartedMs.shift();
        resolve(error === null || error === undefined);
      });
    });
  }

  close(reason: ShoalError): void {
    this.#reason ??= reason;
    this.#socket.destroy();
  }

  onControl(type: number, payload: Buffer): void {
    if (this.hello !== undefined) {
      if (isRightFrame(type)) this.#events.onRight(this, parseRightMessage(type, payload));
      else this.#events.onMessage(this, parseMessage(type, payload));
      return;
    }
    if (type !== FrameType.hello) throw protocolError('it does not begin with a hello');
    const hello = parseHello(payload);
    agreeOnVersion(hello);
    clearTimeout(this.#helloTimer);
    keepUnsentShort(this.#socket);
    this.hello = hello;
    this.identity = this.#transport.identify(this.#socket);
    this.#events.onHello(this, hello);
  }

  onChunk(requestId: number, chunk: number, lengthBytes: number): ChunkTarget | undefined {
    const target = this.#events.onChunk(this, requestId, chunk, lengthBytes);
    if (target !== undefined && this.#progressTimer === undefined) this.#watchProgress();
    return target;
  }

  /** This node may be the one that is late, with the hello unread: timers go off before sockets are read. */
  #lookForHello(helloTimeoutMs: number): void {
    this.#helloTimer = setTimeout(
      () => this.close(unavailable(`no hello within ${helloTimeoutMs} ms`)),
      LAST_LOOK_MS,
    );
  }

  #sendFrame(frame: Buffer): void {
    if (this.isClosed) return;
    if (this.#socket.writableLength > UNSENT_BYTES_MAX) this.close(unavailable('it does not read'));
    else this.#socket.write(frame);
  }

  /** Gives false when reading should pause; it goes on by itself. */
  #read(bytes: Buffer): boolean {
    if (this.isClosed) return true;
    this.#progressBytes += bytes.length;
    try {
      this.#reader.feed(bytes);
    } catch (error) {
      if (!isShoalError(error)) throw error;
      this.close(error);
      return true;
    }
    this.#gather(GATHERED_BYTES);
    if (this.#reader.openTarget !== undefined || !this.#pool.isFull) return true;
    this.#pool.whenFree(() => {
      if (!this.isClosed) this.#socket.resume();
    });
    return false;
  }

  /** Inside a chunk, reads wait for this many bytes, or for all that is left of it: a slow link else brings a few packets each. */
  #gather(bytesMax: number): void {
    if (!this.dialled) return;
    const count = Math.max(1, Math.min(bytesMax, this.#reader.openTargetLeftBytes));
    if (count === this.#gatheredBytes) return;
    this.#gatheredBytes = count;
    this.#transport.gather(this.#socket, count);
  }

  #watchProgress(): void {
    this.#progressBytes = 0;
    this.#progressTimer = setTimeout(() => this.#checkProgress(false), PROGRESS_INTERVAL_MS);
  }

  /** What is being gathered has come too: it is fetched before anything is held against the peer. */
  #checkProgress(isLastLook: boolean): void {
    this.#progressTimer = undefined;
    if (this.#reader.openTarget === undefined) return;
    if (this.#progressBytes >= PROGRESS_BYTES_MIN || this.#pool.isFull) this.#watchProgress();
    else if (isLastLook)
      this.close(unavailable(`it sent ${this.#progressBytes} bytes in ${PROGRESS_INTERVAL_MS} ms`));
    else {
      this.#gather(1);
      this.#progressTimer = setTimeout(() => this.#checkProgress(true), LAST_LOOK_MS);
    }
  }

  #watchSends(delayMs: number): void {
    this.#sendTimer = setTimeout(() => {
      this.#sendTimer = undefined;
      const oldestMs = this.#sendsStartedMs[0];
      if (oldestMs === undefined) return;
      const leftMs = oldestMs + SEND_TIMEOUT_MS - performance.now();
      if (leftMs > 0) this.#watchSends(Math.ceil(leftMs));
      else this.close(unavailable('it does not read'));
    }, delayMs);
  }

  #onClose(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#sendTimer);
    clearTimeout(this.#progressTimer);
    clearTimeout(this.#helloTimer);
    this.#reader.openTarget?.broken();
    this.#events.onClose(this, this.#reason ?? unavailable('it hung up'));
  }
}

export function unavailable(state: string): ShoalError {
  return new ShoalError(ErrorCode.PeerUnavailable, `Cannot use peer: ${state}`, { retriable: true });
}
