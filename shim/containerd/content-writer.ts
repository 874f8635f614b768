import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import { ErrorCode, ShoalError, throwIfAborted } from '../base/errors.ts';
import { api } from './api.ts';
import { callError } from './call-error.ts';
import { type CallOptions, type ContainerdClient, LONG_CALL_TIMEOUT_MS } from './containerd-client.ts';
import type { WriteRequest, WriteResponse } from './messages.ts';

/** containerd ends a stream as soon as we do; one that does not is cut off. */
const CLOSE_TIMEOUT_MS = 5_000;

/**
 * One Write stream: while it is open, containerd keeps its reference locked. containerd answers every message once and in order,
 * so `send` may be called again before the last answer is in. Must be closed.
 */
export class ContentWriter {
  readonly #call: ClientDuplexStream<WriteRequest, WriteResponse>;
  readonly #options: CallOptions;
  readonly #waiting: PromiseWithResolvers<WriteResponse>[] = [];
  readonly #ended = Promise.withResolvers<void>();
  readonly #cancel = (): void => this.#call.cancel();
  #failure: ShoalError | undefined;

  private constructor(client: ContainerdClient, options: CallOptions) {
    this.#options = options;
    this.#call = client.duplex(api.content.write, { timeoutMs: LONG_CALL_TIMEOUT_MS, ...options });
    options.signal.addEventListener('abort', this.#cancel, { once: true });
    this.#call.on('data', (answer: WriteResponse) => this.#waiting.shift()?.resolve(answer));
    this.#call.on('error', (error: ServiceError) =>
      this.#end(callError(error, options.doing, options.signal)),
    );
    this.#call.on('end', () => this.#end(undefined));
  }

  static async open(client: ContainerdClient, options: CallOptions): Promise<ContentWriter> {
    await client.ready(options);
    return new ContentWriter(client, options);
  }

  /** Resolves with containerd's answer to this message. */
  send(request: WriteRequest): Promise<WriteResponse> {
    throwIfAborted(this.#options.signal, this.#options.doing);
    const waiting = Promise.withResolvers<WriteResponse>();
    if (this.#failure !== undefined) {
      waiting.reject(this.#failure);
      return waiting.promise;
    }
    this.#waiting.push(waiting);
    // A caller that has several messages on their way hears of the failure through the first.
    waiting.promise.catch(() => undefined);
    this.#call.write(request);
    return waiting.promise;
  }

  /** Ends the stream and waits for its end; what was written stays in the ingest. Never throws. */
  async close(): Promise<void> {
    this.#call.end();
    const timer = setTimeout(this.#cancel, CLOSE_TIMEOUT_MS);
    await this.#ended.promise;
    clearTimeout(timer);
  }

  #end(failure: ShoalError | undefined): void {
    this.#failure ??=
      failure ??
      new ShoalError(
        ErrorCode.StoreFailed,
        `Cannot ${this.#options.doing}: containerd ended the stream too early`,
      );
    for (const waiting of this.#waiting.splice(0)) waiting.reject(this.#failure);
    this.#options.signal.removeEventListener('abort', this.#cancel);
    this.#ended.resolve();
  }
}
