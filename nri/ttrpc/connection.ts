import type { Duplex } from 'node:stream';
import { Code, TtrpcError } from './code.ts';
import { type DecodedFrame, encodeFrame, type Frame, FrameDecoder } from './frame.ts';

/** What may wait to be sent before nothing more is read: two messages of the largest size, bytes. */
const UNSENT_BYTES_MAX = 2 * (4 << 20);

export interface ConnectionEvents {
  onFrame(frame: DecodedFrame): void;
  /** Once, whichever side ended it; nothing follows. */
  onClose(error: TtrpcError): void;
}

/**
 * Frames over a byte stream, read no faster than they are handled: reading pauses while somebody holds it (`hold`),
 * and while too much of what was answered waits to be sent. Each frame is given to the stream as one chunk.
 */
export class Connection {
  readonly #stream: Duplex;
  readonly #events: ConnectionEvents;
  readonly #decoder = new FrameDecoder();
  readonly #drained = new Set<() => void>();
  #holds = 0;
  #isClogged = false;
  #closed: TtrpcError | undefined;

  constructor(stream: Duplex, events: ConnectionEvents) {
    this.#stream = stream;
    this.#events = events;
    stream.on('data', this.#onData);
    stream.on('drain', this.#onDrain);
    stream.on('end', this.#onEnd);
    stream.on('close', this.#onEnd);
    stream.on('error', this.#onError);
  }

  /** Why the connection is over; undefined while it is not. */
  get closed(): TtrpcError | undefined {
    return this.#closed;
  }

  /** @throws TtrpcError `ResourceExhausted` (too long), `Unavailable` (closed) */
  send(frame: Frame): void {
    if (this.#closed !== undefined) throw this.#closed;
    this.#stream.write(encodeFrame(frame));
    if (this.#stream.writableLength <= UNSENT_BYTES_MAX) return;
    this.#isClogged = true;
    this.#updateFlow();
  }

  /** Resolves when the other side takes what was sent, or the connection is over. */
  async whenDrained(): Promise<void> {
    if (this.#closed !== undefined || !this.#stream.writableNeedDrain) return;
    await new Promise<void>((resolve) => this.#drained.add(resolve));
  }

  /** Reads nothing more until the returned function is called (once counts). */
  hold(): () => void {
    this.#holds += 1;
    this.#updateFlow();
    let isHeld = true;
    return () => {
      if (isHeld) this.#holds -= 1;
      isHeld = false;
      this.#updateFlow();
    };
  }

  close(error = new TtrpcError(Code.Unavailable, 'ttrpc: closed')): void {
    if (this.#closed !== undefined) return;
    this.#closed = error;
    this.#stream.off('data', this.#onData).off('drain', this.#onDrain);
    this.#stream.off('end', this.#onEnd).off('close', this.#onEnd);
    // The error listener stays: a stream may fail once more while it is torn down.
    this.#stream.destroy();
    this.#releaseWaiters();
    this.#events.onClose(error);
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#decoder.feed(chunk);
    for (const frame of this.#decoder.collect()) {
      if (this.#closed !== undefined) return;
      this.#events.onFrame(frame);
    }
  };

  readonly #onDrain = (): void => {
    this.#isClogged = false;
    this.#updateFlow();
    this.#releaseWaiters();
  };

  readonly #onEnd = (): void => this.close();

  readonly #onError = (cause: Error): void =>
    this.close(new TtrpcError(Code.Unavailable, `ttrpc: closed: ${cause.message}`, { cause }));

  #updateFlow(): void {
    if (this.#closed !== undefined) return;
    if (this.#holds > 0 || this.#isClogged) this.#stream.pause();
    else if (this.#stream.isPaused()) this.#stream.resume();
  }

  #releaseWaiters(): void {
    for (const resolve of this.#drained) resolve();
    this.#drained.clear();
  }
}
