import { Duplex } from 'node:stream';
import { encodeMux, MuxDecoder } from './mux.ts';

/** One connection to the runtime, split into the byte streams that ttrpc speaks on. Who ends one ends all. */
export class MuxConnection {
  readonly #socket: Duplex;
  readonly #decoder = new MuxDecoder();
  readonly #channels = new Map<number, Channel>();

  constructor(socket: Duplex, connectionIds: readonly number[]) {
    this.#socket = socket;
    const readers = new Readers(socket);
    for (const id of connectionIds) this.#channels.set(id, new Channel(socket, id, readers));
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('error', (error) => this.#destroy(error));
    socket.on('end', () => this.#destroy());
    socket.on('close', () => this.#destroy());
  }

  /** The byte stream of one of the ids given at the start. Each chunk written to it has to be a whole message. */
  channel(connectionId: number): Duplex {
    const channel = this.#channels.get(connectionId);
    if (channel === undefined) throw new RangeError(`no connection ${connectionId}`);
    return channel;
  }

  #onData(chunk: Buffer): void {
    try {
      // Frames of other ids are for services of the future.
      this.#decoder.feed(chunk, (id, payload) => this.#channels.get(id)?.receive(payload));
    } catch (error) {
      this.#destroy(error as Error);
    }
  }

  #destroy(error?: Error): void {
    this.#socket.destroy();
    for (const channel of this.#channels.values()) channel.destroy(error);
  }
}

/** The connection is read while every channel is: one that is behind holds up all, and keeps no more than it has. */
class Readers {
  readonly #socket: Duplex;
  readonly #behind = new Set<number>();

  constructor(socket: Duplex) {
    this.#socket = socket;
  }

  fallBehind(id: number): void {
    this.#behind.add(id);
    this.#socket.pause();
  }

  catchUp(id: number): void {
    if (this.#behind.delete(id) && this.#behind.size === 0) this.#socket.resume();
  }
}

class Channel extends Duplex {
  readonly #socket: Duplex;
  readonly #id: number;
  readonly #readers: Readers;

  constructor(socket: Duplex, id: number, readers: Readers) {
    super({ autoDestroy: true });
    this.#socket = socket;
    this.#id = id;
    this.#readers = readers;
    // Whoever uses the channel is told as well; without anybody it would end the process.
    this.on('error', () => undefined);
  }

  receive(payload: Buffer): void {
    if (!this.push(payload)) this.#readers.fallBehind(this.#id);
  }

  override _read(): void {
    this.#readers.catchUp(this.#id);
  }

  override _write(message: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#socket.write(encodeMux(this.#id, message), done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}
