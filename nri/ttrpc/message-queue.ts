import { Code, TtrpcError } from './code.ts';

/** Messages that a stream keeps for a reader that is not there yet; from here on the connection waits for it. */
export const QUEUE_MESSAGES_MAX = 64;
/** The same by size: two messages of the largest size, bytes. */
export const QUEUE_BYTES_MAX = 2 * (4 << 20);
/** For so long one slow stream may hold up the others of its connection, ms; then it fails. */
export const STALL_MS = 1000;

type Waiter = { resolve(result: IteratorResult<Buffer>): void; reject(error: TtrpcError): void };

/**
 * The messages of one stream between the connection and their reader. Bounded: when it is full it asks for the
 * connection to be held, and when the reader takes nothing for `STALL_MS` the stream fails with `ResourceExhausted`.
 */
export class MessageQueue implements AsyncIterableIterator<Buffer> {
  readonly #hold: () => () => void;
  readonly #onAbandoned: () => void;
  #messages: Buffer[] = [];
  #bytes = 0;
  #waiters: Waiter[] = [];
  #end: { readonly error: TtrpcError | undefined } | undefined;
  #release: (() => void) | undefined;

  /** `onAbandoned`: the reader has left the loop, or was too slow. */
  constructor(hold: () => () => void, onAbandoned: () => void) {
    this.#hold = hold;
    this.#onAbandoned = onAbandoned;
  }

  push(message: Buffer): void {
    if (this.#end !== undefined) return;
    const waiter = this.#waiters.shift();
    if (waiter === undefined) this.#keep(message);
    else waiter.resolve({ value: message, done: false });
  }

  #keep(message: Buffer): void {
    this.#messages.push(message);
    this.#bytes += message.length;
    if (this.#messages.length >= QUEUE_MESSAGES_MAX || this.#bytes >= QUEUE_BYTES_MAX) this.#stall();
  }

  /** No more messages; the reader still gets those that are here, then the error if there is one. */
  end(error?: TtrpcError): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    this.#relieve();
    for (const waiter of this.#waiters.splice(0)) this.#settle(waiter);
  }

  next(): Promise<IteratorResult<Buffer>> {
    const message = this.#messages.shift();
    if (message === undefined)
      return new Promise((resolve, reject) => {
        const waiter = { resolve, reject };
        if (this.#end === undefined) this.#waiters.push(waiter);
        else this.#settle(waiter);
      });
    this.#bytes -= message.length;
    if (this.#messages.length < QUEUE_MESSAGES_MAX / 2 && this.#bytes < QUEUE_BYTES_MAX / 2) this.#relieve();
    return Promise.resolve({ value: message, done: false });
  }

  return(): Promise<IteratorResult<Buffer>> {
    this.#drop();
    this.end();
    this.#onAbandoned();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #stall(): void {
    if (this.#release !== undefined) return;
    const release = this.#hold();
    const timer = setTimeout(() => {
      this.#drop();
      this.end(
        new TtrpcError(
          Code.ResourceExhausted,
          `messages were not read for ${STALL_MS} ms: the stream is over`,
        ),
      );
      this.#onAbandoned();
    }, STALL_MS);
    this.#release = () => {
      clearTimeout(timer);
      release();
    };
  }

  #relieve(): void {
    this.#release?.();
    this.#release = undefined;
  }

  #drop(): void {
    this.#messages = [];
    this.#bytes = 0;
  }

  #settle({ resolve, reject }: Waiter): void {
    if (this.#end?.error === undefined) resolve({ value: undefined, done: true });
    else reject(this.#end.error);
  }
}
