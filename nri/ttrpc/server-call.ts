import { Code, TtrpcError } from './code.ts';
import { MessageQueue } from './message-queue.ts';
import type { Metadata, RequestMessage } from './messages.ts';

/** What a handler learns of its call besides the payload. */
export interface CallContext {
  readonly service: string;
  readonly method: string;
  readonly metadata: Metadata;
  /** How long the caller waits, ms; undefined: for as long as it takes. */
  readonly timeoutMs: number | undefined;
  /** Aborted when nobody waits for the answer any more: time over, connection gone, or answered. */
  readonly signal: AbortSignal;
}

/** What the server keeps of a call until it is answered. */
export class ServerCall {
  readonly #abort = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #messages: MessageQueue | undefined;

  /** The client's messages; undefined for a unary call. */
  get messages(): MessageQueue | undefined {
    return this.#messages;
  }

  start({ service, method, metadata, timeoutMs }: RequestMessage, onTimeout: () => void): CallContext {
    if (timeoutMs !== undefined) this.#timer = setTimeout(onTimeout, Math.min(timeoutMs, TIMER_MS_MAX));
    return { service, method, metadata, timeoutMs, signal: this.#abort.signal };
  }

  receive(hold: () => () => void): MessageQueue {
    this.#messages = new MessageQueue(hold, () => undefined);
    return this.#messages;
  }

  stop(error: TtrpcError = new TtrpcError(Code.Canceled, 'the call is over')): void {
    clearTimeout(this.#timer);
    this.#messages?.end(error);
    this.#abort.abort(error);
  }
}

/** What a timer can wait: 24 days. */
const TIMER_MS_MAX = 2 ** 31 - 1;
