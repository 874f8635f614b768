import type { Duplex } from 'node:stream';
import { ClientStream, type StreamSink } from './client-stream.ts';
import { Code, TtrpcError } from './code.ts';
import { Connection } from './connection.ts';
import { type DecodedFrame, Flag, FrameType, tooLong } from './frame.ts';
import { decodeResponse, encodeRequest, type Metadata } from './messages.ts';
import { StreamTable } from './stream-table.ts';

/** Calls of one connection that may wait for their answers; the next one fails with `ResourceExhausted`. */
export const CALLS_MAX = 1024;

export interface CallOptions {
  /** How long the call may take, ms; the server is told. Default: no limit. */
  readonly timeoutMs?: number;
  /** Gives the call up here; the protocol has no way to tell the server. */
  readonly signal?: AbortSignal;
  /** Keys are sent in lower case. */
  readonly metadata?: Readonly<Record<string, string | readonly string[]>>;
}

/** Who streams: only the server (one request, many answers), or the client (and the server perhaps, too). */
export type StreamOptions = CallOptions &
  ({ readonly request: Uint8Array } | { readonly clientStreams: true });

/** What the client keeps of a call; each function is called as long as the call is open. */
export interface OpenCall {
  /** `payload` undefined: a message of the other side's stream has ended it. */
  onEnd(outcome: { readonly payload: Buffer } | { readonly error: TtrpcError } | undefined): void;
  /** Undefined for unary calls, which get no data frames. */
  readonly onMessage: ((message: Buffer) => void) | undefined;
}

/** One ttrpc connection as its client, over any byte stream. Closing it, or losing it, fails all open calls. */
export class TtrpcClient {
  readonly #connection: Connection;
  readonly #calls = new StreamTable<OpenCall>(CALLS_MAX);
  readonly #closed = Promise.withResolvers<TtrpcError>();

  /** The stream is the client's from here on. */
  constructor(stream: Duplex) {
    this.#connection = new Connection(stream, {
      onFrame: (frame) => this.#onFrame(frame),
      onClose: (error) => this.#onClose(error),
    });
  }

  /** Resolves with the reason when the connection is over. */
  get closed(): Promise<TtrpcError> {
    return this.#closed.promise;
  }

  close(): void {
    this.#connection.close();
  }

  /** One request, one answer: the payloads' protobuf bytes. @throws TtrpcError */
  async call(
    service: string,
    method: string,
    payload: Uint8Array,
    options: CallOptions = {},
  ): Promise<Buffer> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    const watch = new CallWatch(options);
    const onEnd: OpenCall['onEnd'] = (outcome) => {
      if (outcome === undefined) reject(wrongAnswer('a stream'));
      else if ('error' in outcome) reject(outcome.error);
      else resolve(outcome.payload);
    };
    const id = this.#start({ onEnd, onMessage: undefined }, { service, method, payload, flags: 0 }, options);
    watch.start((error) => this.#end(id, { error }));
    try {
      return await promise;
    } finally {
      watch.stop();
    }
  }

  /**
   * Starts a streaming call. Against servers of ttrpc below 1.2.8 (containerd below 2.3) no message may be sent that
   * can cross the server's end of the call: it would end the whole process there.
   * @throws TtrpcError
   */
  openStream(service: string, method: string, options: StreamOptions): ClientStream {
    const isOpen = 'clientStreams' in options;
    const payload = 'request' in options ? options.request : Buffer.alloc(0);
    const watch = new CallWatch(options);
    let id = 0;
    const sink: StreamSink = {
      send: async (data, flags) => {
        this.#connection.send({ streamId: id, type: FrameType.Data, flags, data });
        await this.#connection.whenDrained();
      },
      hold: () => this.#connection.hold(),
      cancel: () => this.#end(id, { error: new TtrpcError(Code.Canceled, 'the caller gave the stream up') }),
      onEnded: () => watch.stop(),
    };
    const stream = new ClientStream(sink, isOpen);
    const flags = isOpen ? Flag.RemoteOpen : Flag.RemoteClosed;
    id = this.#start(stream.call, { service, method, payload, flags }, options);
    watch.start((error) => this.#end(id, { error }));
    return stream;
  }

  #start(call: OpenCall, request: Request, { timeoutMs, signal, metadata = {} }: CallOptions): number {
    if (this.#connection.closed !== undefined) throw this.#connection.closed;
    if (signal?.aborted) throw canceled(signal);
    if (timeoutMs !== undefined && timeoutMs <= 0) throw outOfTime(timeoutMs);
    const { flags, payload: bytes, ...names } = request;
    const payload = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const data = encodeRequest({ ...names, payload, timeoutMs, metadata: listValues(metadata) });
    const streamId = this.#calls.open(call);
    if (streamId === undefined)
      throw new TtrpcError(Code.ResourceExhausted, `${CALLS_MAX} calls wait, or no stream id is left`);
    try {
      this.#connection.send({ streamId, type: FrameType.Request, flags, data });
    } catch (error) {
      this.#calls.close(streamId);
      throw error;
    }
    return streamId;
  }

  #end(id: number, outcome: Parameters<OpenCall['onEnd']>[0]): void {
    this.#calls.close(id)?.onEnd(outcome);
  }

  /** Frames of calls that were given up, and types of the future, are nobody's. */
  #onFrame({ streamId, type, flags, data, discardedBytes }: DecodedFrame): void {
    const call = this.#calls.get(streamId);
    if (call === undefined) return;
    if (discardedBytes !== undefined) this.#end(streamId, { error: tooLong(discardedBytes) });
    else if (type === FrameType.Response) this.#onResponse(streamId, data);
    else if (type === FrameType.Data) {
      if ((flags & Flag.NoData) === 0) call.onMessage?.(data);
      if ((flags & Flag.RemoteClosed) !== 0 || call.onMessage === undefined) this.#end(streamId, undefined);
    }
  }

  #onResponse(id: number, data: Buffer): void {
    try {
      this.#end(id, decodeResponse(data));
    } catch (error) {
      this.#end(id, { error: error as TtrpcError });
    }
  }

  #onClose(error: TtrpcError): void {
    for (const call of this.#calls.closeAll()) call.onEnd({ error });
    this.#closed.resolve(error);
  }
}

interface Request {
  readonly service: string;
  readonly method: string;
  readonly payload: Uint8Array;
  readonly flags: number;
}

/** Ends a call when its time is over or its caller gives up. */
class CallWatch {
  readonly #options: CallOptions;
  #timer: NodeJS.Timeout | undefined;
  #onAbort: (() => void) | undefined;

  constructor(options: CallOptions) {
    this.#options = options;
  }

  start(end: (error: TtrpcError) => void): void {
    const { timeoutMs, signal } = this.#options;
    if (timeoutMs !== undefined) this.#timer = setTimeout(() => end(outOfTime(timeoutMs)), timeoutMs);
    if (signal === undefined) return;
    this.#onAbort = () => end(canceled(signal));
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  stop(): void {
    clearTimeout(this.#timer);
    if (this.#onAbort !== undefined) this.#options.signal?.removeEventListener('abort', this.#onAbort);
  }
}

function listValues(metadata: Readonly<Record<string, string | readonly string[]>>): Metadata {
  const lists = Object.entries(metadata).map(
    ([key, value]) => [key.toLowerCase(), typeof value === 'string' ? [value] : value] as const,
  );
  return new Map(lists);
}

function canceled(signal: AbortSignal): TtrpcError {
  return new TtrpcError(Code.Canceled, 'the caller gave the call up', { cause: signal.reason });
}

function outOfTime(timeoutMs: number): TtrpcError {
  return new TtrpcError(Code.DeadlineExceeded, `no answer within ${timeoutMs} ms`);
}

function wrongAnswer(found: string): TtrpcError {
  return new TtrpcError(Code.Internal, `found ${found}, wanted one answer: the method is no unary one`);
}
