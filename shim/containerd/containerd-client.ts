import {
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  connectivityState,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { cancelled, ErrorCode, ShoalError, throwIfAborted } from '../base/errors.ts';
import type { Method } from './api.ts';
import { callError } from './call-error.ts';

/** An answer from containerd's metadata takes milliseconds; on a disk that is busy with an unpack, seconds. */
const CALL_TIMEOUT_MS = 60_000;
/** Calls that read or delete whole trees or blobs: commit of a snapshot, of a blob, collection of garbage. */
export const LONG_CALL_TIMEOUT_MS = 30 * 60_000;
/** containerd's own limit for one message, bytes. */
const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
/** containerd restarts in well under a second; grpc-js would wait up to two minutes between attempts. */
const RECONNECT_FIRST_MS = 100;
const RECONNECT_MAX_MS = 500;
/** A call that finds containerd away waits this long for it: long enough for a restart. */
const CONNECT_WAIT_MS = 3_000;

export interface CallOptions {
  readonly signal: AbortSignal;
  /** Completes `Cannot …` in error messages: verb and object, with the name in double quotes. */
  readonly doing: string;
  readonly lease?: string | undefined;
  readonly timeoutMs?: number;
}

/**
 * Calls to one containerd over its unix socket in one namespace. Connects when first used and again after a restart
 * of containerd. Every call rejects with StoreUnavailable, StoreFailed (`facts.grpcCode`) or Cancelled.
 */
export class ContainerdClient {
  readonly socket: string;
  readonly #client: Client;
  readonly #namespace: string;

  constructor(socket: string, namespace: string) {
    this.socket = socket;
    this.#namespace = namespace;
    this.#client = new Client(`unix://${socket}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
      'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
      'grpc.initial_reconnect_backoff_ms': RECONNECT_FIRST_MS,
      'grpc.max_reconnect_backoff_ms': RECONNECT_MAX_MS,
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  async call<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    options: CallOptions,
  ): Promise<Response> {
    await this.ready(options);
    const { promise, resolve, reject } = Promise.withResolvers<Response>();
    const call = this.#client.makeUnaryRequest(
      method.path,
      method.encode,
      method.decode,
      request,
      this.#metadata(options),
      { deadline: deadline(options) },
      (error, response) => {
        if (error) reject(callError(error, options.doing, options.signal));
        else if (response === undefined) reject(emptyAnswer(options.doing));
        else resolve(response);
      },
    );
    return await withCancel(call, options.signal, promise);
  }

  /** Collects the answers of a call that streams them. */
  async collect<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    options: CallOptions,
  ): Promise<Response[]> {
    await this.ready(options);
    const call: ClientReadableStream<Response> = this.#client.makeServerStreamRequest(
      method.path,
      method.encode,
      method.decode,
      request,
      this.#metadata(options),
      { deadline: deadline(options) },
    );
    const { promise, resolve, reject } = Promise.withResolvers<Response[]>();
    const answers: Response[] = [];
    call.on('data', (answer: Response) => answers.push(answer));
    call.on('end', () => resolve(answers));
    call.on('error', (error: ServiceError) => reject(callError(error, options.doing, options.signal)));
    return await withCancel(call, options.signal, promise);
  }

  /** Resolves when there is a connection. @throws StoreUnavailable, Cancelled */
  async ready(options: CallOptions): Promise<void> {
    throwIfAborted(options.signal, options.doing);
    if (this.#client.getChannel().getConnectivityState(true) === connectivityState.READY) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const abort = (): void => reject(cancelled(options.signal, options.doing));
    options.signal.addEventListener('abort', abort, { once: true });
    this.#client.waitForReady(Date.now() + CONNECT_WAIT_MS, (error) => {
      if (error) reject(notConnected(this.socket, options.doing, error));
      else resolve();
    });
    try {
      await promise;
    } finally {
      options.signal.removeEventListener('abort', abort);
    }
  }

  /** Opens a stream in both directions; `ready` comes first. The caller ends or cancels it and handles its `error`. */
  duplex<Request, Response>(
    method: Method<Request, Response>,
    options: CallOptions,
  ): ClientDuplexStream<Request, Response> {
    return this.#client.makeBidiStreamRequest(
      method.path,
      method.encode,
      method.decode,
      this.#metadata(options),
      { deadline: deadline(options) },
    );
  }

  close(): void {
    this.#client.close();
  }

  #metadata(options: CallOptions): Metadata {
    const metadata = new Metadata();
    metadata.set('containerd-namespace', this.#namespace);
    if (options.lease !== undefined) metadata.set('containerd-lease', options.lease);
    return metadata;
  }
}

function deadline(options: CallOptions): number {
  return Date.now() + (options.timeoutMs ?? CALL_TIMEOUT_MS);
}

async function withCancel<T>(call: { cancel(): void }, signal: AbortSignal, answer: Promise<T>): Promise<T> {
  const cancel = (): void => call.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  try {
    return await answer;
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}

function notConnected(socket: string, doing: string, cause: Error): ShoalError {
  return new ShoalError(
    ErrorCode.StoreUnavailable,
    `Cannot ${doing}: nothing answers at "${socket}", a running containerd wanted`,
    { cause, retriable: true },
  );
}

function emptyAnswer(doing: string): ShoalError {
  return new ShoalError(ErrorCode.StoreFailed, `Cannot ${doing}: containerd answered nothing`);
}
