import type { OpenCall } from './client.ts';
import { Code, TtrpcError } from './code.ts';
import { Flag } from './frame.ts';
import { MessageQueue } from './message-queue.ts';

/** What a stream needs of its connection. */
export interface StreamSink {
  send(data: Buffer, flags: number): Promise<void>;
  hold(): () => void;
  cancel(): void;
  onEnded(): void;
}

/**
 * The client's side of a streaming call: `for await` gives the server's messages until it ends the stream, or throws
 * the TtrpcError that ended it. Leaving the loop gives the call up.
 */
export class ClientStream implements AsyncIterable<Buffer> {
  readonly #sink: StreamSink;
  readonly #messages: MessageQueue;
  #canSend: boolean;
  #end: TtrpcError | 'ended' | undefined;

  constructor(sink: StreamSink, canSend: boolean) {
    this.#sink = sink;
    this.#canSend = canSend;
    this.#messages = new MessageQueue(
      () => sink.hold(),
      () => sink.cancel(),
    );
  }

  /** For the client that opens the stream. */
  get call(): OpenCall {
    return { onMessage: (message) => this.#messages.push(message), onEnd: (outcome) => this.#onEnd(outcome) };
  }

  /** Sends a message; resolves when more may be sent. @throws TtrpcError */
  async send(message: Uint8Array): Promise<void> {
    this.#checkSending();
    await this.#sink.send(Buffer.from(message.buffer, message.byteOffset, message.byteLength), 0);
  }

  /** Tells the server that nothing more is sent; does nothing when it is told already or the call is over. */
  async closeSend(): Promise<void> {
    if (!this.#canSend || this.#end !== undefined) return;
    this.#canSend = false;
    await this.#sink.send(Buffer.alloc(0), Flag.RemoteClosed | Flag.NoData);
  }

  [Symbol.asyncIterator](): AsyncIterator<Buffer> {
    return this.#messages;
  }

  #checkSending(): void {
    if (this.#end instanceof TtrpcError) throw this.#end;
    // A data frame for a stream that the server has ended makes an old one panic.
    if (this.#end !== undefined)
      throw new TtrpcError(Code.FailedPrecondition, 'the server has ended the stream');
    if (!this.#canSend)
      throw new TtrpcError(Code.FailedPrecondition, 'nothing more may be sent on this stream');
  }

  #onEnd(outcome: Parameters<OpenCall['onEnd']>[0]): void {
    this.#end = outcome !== undefined && 'error' in outcome ? outcome.error : 'ended';
    if (outcome !== undefined && 'payload' in outcome) this.#messages.push(outcome.payload);
    this.#messages.end(this.#end instanceof TtrpcError ? this.#end : undefined);
    this.#sink.onEnded();
  }
}
