import type { Duplex } from 'node:stream';
import { Code, TtrpcError, toTtrpcError } from './code.ts';
import { Connection } from './connection.ts';
import { type DecodedFrame, Flag, type Frame, FrameType, tooLong } from './frame.ts';
import { decodeRequest, encodeResponse, type RequestMessage, type ResponseMessage } from './messages.ts';
import { type CallContext, ServerCall } from './server-call.ts';
import { StreamTable } from './stream-table.ts';

/** Calls of one connection that may be answered at the same time; more are refused with `ResourceExhausted`. */
export const ACTIVE_CALLS_MAX = 1024;

/** Answers one request. An answer that is not a promise is sent before anything else is read. */
export type UnaryHandler = (payload: Buffer, context: CallContext) => Uint8Array | Promise<Uint8Array>;

/** A method whose client or server streams. With `serverStreams: false` the handler's result is the one answer. */
export interface StreamingMethod {
  readonly serverStreams: boolean;
  /** Reads the client's messages (for a client that does not stream: its one request), and sends. */
  handle(stream: ServerStream, context: CallContext): Promise<Uint8Array | undefined>;
}

export interface ServerStream extends AsyncIterable<Buffer> {
  /** Sends a message; resolves when more may be sent. @throws TtrpcError when the call is over */
  send(message: Uint8Array): Promise<void>;
}

/** Methods by the name of their service (`package.Service`) and their own. */
export type Services = Readonly<Record<string, Readonly<Record<string, UnaryHandler | StreamingMethod>>>>;

export interface ServerConnection {
  /** Resolves with the reason when the connection is over; by then every call's signal is aborted. */
  readonly closed: Promise<TtrpcError>;
  close(): void;
}

/** Serves one connection over any byte stream, which is the server's from here on. */
export function serve(stream: Duplex, services: Services): ServerConnection {
  return new Server(stream, services);
}

class Server implements ServerConnection {
  readonly #connection: Connection;
  readonly #services: Services;
  readonly #calls = new StreamTable<ServerCall>(ACTIVE_CALLS_MAX);
  readonly #closed = Promise.withResolvers<TtrpcError>();

  constructor(stream: Duplex, services: Services) {
    this.#services = services;
    this.#connection = new Connection(stream, {
      onFrame: (frame) => this.#onFrame(frame),
      onClose: (error) => this.#onClose(error),
    });
  }

  get closed(): Promise<TtrpcError> {
    return this.#closed.promise;
  }

  close(): void {
    this.#connection.close();
  }

  #onFrame(frame: DecodedFrame): void {
    if (frame.type === FrameType.Request) this.#onRequest(frame);
    else if (frame.type === FrameType.Data) this.#onData(frame);
  }

  #onRequest({ streamId, flags, data, discardedBytes }: DecodedFrame): void {
    const call = new ServerCall();
    const acceptance = this.#calls.accept(streamId, call);
    if (acceptance !== 'accepted') {
      this.#respond(streamId, { error: refusal(streamId, acceptance) });
      return;
    }
    try {
      if (discardedBytes !== undefined) throw tooLong(discardedBytes);
      this.#start(streamId, call, decodeRequest(data), flags);
    } catch (error) {
      this.#finish(streamId, { error: toTtrpcError(error) });
    }
  }

  #start(id: number, call: ServerCall, request: RequestMessage, flags: number): void {
    const method = this.#find(request);
    const error = new TtrpcError(Code.DeadlineExceeded, 'the time of the call is over');
    const context = call.start(request, () => this.#finish(id, { error }));
    if (typeof method === 'function') {
      const answer = method(request.payload, context);
      if (answer instanceof Promise) this.#finishLater(id, answer);
      else this.#finish(id, { payload: asBuffer(answer) });
      return;
    }
    const messages = call.receive(() => this.#connection.hold());
    if ((flags & Flag.RemoteOpen) === 0) {
      messages.push(request.payload);
      messages.end();
    }
    const stream: ServerStream = {
      [Symbol.asyncIterator]: () => messages,
      send: (message) => this.#sendMessage(id, call, message),
    };
    this.#finishLater(id, method.handle(stream, context), method.serverStreams);
  }

  #find({ service, method }: RequestMessage): UnaryHandler | StreamingMethod {
    const methods = Object.hasOwn(this.#services, service) ? this.#services[service] : undefined;
    if (methods === undefined) throw new TtrpcError(Code.Unimplemented, `service ${service}`);
    const found = Object.hasOwn(methods, method) ? methods[method] : undefined;
    if (found === undefined) throw new TtrpcError(Code.Unimplemented, `method ${method}`);
    return found;
  }

  /** Data for a call that is over crossed its answer: nobody's. */
  #onData({ streamId, flags, data, discardedBytes }: DecodedFrame): void {
    const call = this.#calls.get(streamId);
    if (call === undefined) return;
    const { messages } = call;
    const isClosing = (flags & Flag.RemoteClosed) !== 0;
    if (discardedBytes !== undefined) this.#finish(streamId, { error: tooLong(discardedBytes) });
    else if (messages === undefined) this.#finish(streamId, invalid('the method takes no stream'));
    else if (isClosing && data.length > 0) this.#finish(streamId, invalid('a closing frame holds data'));
    else if (isClosing) messages.end();
    else if ((flags & Flag.NoData) === 0) messages.push(data);
  }

  async #sendMessage(id: number, call: ServerCall, message: Uint8Array): Promise<void> {
    if (this.#calls.get(id) !== call) throw new TtrpcError(Code.Canceled, 'the call is over');
    this.#connection.send({ streamId: id, type: FrameType.Data, flags: 0, data: asBuffer(message) });
    await this.#connection.whenDrained();
  }

  #finishLater(id: number, answer: Promise<Uint8Array | undefined>, isStream = false): void {
    answer.then(
      (payload) => this.#finish(id, isStream ? undefined : { payload: asBuffer(payload ?? Buffer.alloc(0)) }),
      (error: unknown) => this.#finish(id, { error: toTtrpcError(error) }),
    );
  }

  /** Answers, unless that has happened; undefined ends the server's stream. */
  #finish(id: number, response: ResponseMessage | undefined): void {
    const call = this.#calls.close(id);
    if (call === undefined) return;
    call.stop();
    if (response !== undefined) this.#respond(id, response);
    else if (this.#connection.closed === undefined) this.#connection.send(lastFrame(id));
  }

  #respond(streamId: number, response: ResponseMessage): void {
    if (this.#connection.closed !== undefined) return;
    const send = (answer: ResponseMessage): void =>
      this.#connection.send({ streamId, type: FrameType.Response, flags: 0, data: encodeResponse(answer) });
    try {
      send(response);
    } catch (error) {
      // An answer that is too long; the caller is told, and the connection lives on.
      send({ error: toTtrpcError(error) });
    }
  }

  #onClose(error: TtrpcError): void {
    for (const call of this.#calls.closeAll()) call.stop(error);
    this.#closed.resolve(error);
  }
}

function lastFrame(streamId: number): Frame {
  return { streamId, type: FrameType.Data, flags: Flag.RemoteClosed | Flag.NoData, data: Buffer.alloc(0) };
}

function invalid(message: string): { readonly error: TtrpcError } {
  return { error: new TtrpcError(Code.InvalidArgument, message) };
}

function refusal(id: number, reason: 'even' | 'reused' | 'full'): TtrpcError {
  if (reason === 'full')
    return new TtrpcError(Code.ResourceExhausted, `${ACTIVE_CALLS_MAX} calls are being answered already`);
  const message =
    reason === 'even'
      ? `StreamID must be odd for client initiated streams: ${id}`
      : `StreamID cannot be re-used and must increment: ${id}`;
  return new TtrpcError(Code.InvalidArgument, message);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
