import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';

const same = (bytes: Buffer): Buffer => bytes;

/** A method of the stand-in server, with raw bytes on both sides. */
export function method(
  path: string,
  kind: 'unary' | 'server' | 'bidi',
): grpc.MethodDefinition<Buffer, Buffer> {
  return {
    path,
    requestStream: kind === 'bidi',
    responseStream: kind !== 'unary',
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
}

export const PULL = '/runtime.v1.ImageService/PullImage';
export const STATUS = '/runtime.v1.ImageService/ImageStatus';
export const EVENTS = '/runtime.v1.RuntimeService/GetContainerEvents';
export const CHAT = '/runtime.v1.RuntimeService/Chat';

/** A real gRPC server on a unix socket that stands in for containerd. */
export async function startGrpcServer(
  socketPath: string,
  handlers: Readonly<Record<string, readonly ['unary' | 'server' | 'bidi', grpc.UntypedHandleCall]>>,
): Promise<grpc.Server> {
  const server = new grpc.Server({ 'grpc.max_receive_message_length': 32 << 20 });
  const definition: Record<string, grpc.MethodDefinition<Buffer, Buffer>> = {};
  const implementation: Record<string, grpc.UntypedHandleCall> = {};
  for (const [path, [kind, handler]] of Object.entries(handlers)) {
    definition[path] = method(path, kind);
    implementation[path] = handler;
  }
  server.addService(definition, implementation);
  await new Promise<void>((resolve, reject) => {
    const credentials = grpc.ServerCredentials.createInsecure();
    server.bindAsync(`unix:${socketPath}`, credentials, (error) =>
      error === null ? resolve() : reject(error),
    );
  });
  return server;
}

export function grpcClient(socketPath: string): grpc.Client {
  return new grpc.Client(`unix:${socketPath}`, grpc.credentials.createInsecure(), {
    'grpc.default_authority': 'localhost',
    'grpc.max_receive_message_length': 32 << 20,
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
  });
}

export interface UnaryAnswer {
  readonly bytes: Buffer | undefined;
  readonly error: grpc.ServiceError | undefined;
  readonly headers: grpc.Metadata | undefined;
  readonly trailers: grpc.Metadata | undefined;
}

export interface UnaryOptions {
  readonly metadata?: grpc.Metadata;
  readonly call?: grpc.CallOptions;
  readonly onCall?: (call: grpc.ClientUnaryCall) => void;
}

/** One unary call; resolves with what came of it, errors included. */
export function callUnary(client: grpc.Client, path: string, bytes: Buffer, options: UnaryOptions = {}) {
  return new Promise<UnaryAnswer>((resolve) => {
    let headers: grpc.Metadata | undefined;
    let trailers: grpc.Metadata | undefined;
    let outcome: { bytes: Buffer | undefined; error: grpc.ServiceError | undefined } | undefined;
    const settle = () => {
      if (outcome !== undefined && trailers !== undefined) resolve({ ...outcome, headers, trailers });
    };
    const metadata = options.metadata ?? new grpc.Metadata();
    const call = client.makeUnaryRequest(
      path,
      same,
      same,
      bytes,
      metadata,
      options.call ?? {},
      (error, value) => {
        outcome = { bytes: value, error: error ?? undefined };
        trailers ??= error?.metadata;
        settle();
      },
    );
    call.on('metadata', (value: grpc.Metadata) => {
      headers = value;
    });
    call.on('status', (status: grpc.StatusObject) => {
      trailers = status.metadata;
      settle();
    });
    options.onCall?.(call);
  });
}

/** A directory with a path short enough for sockets. */
export async function socketDirectory(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'shoal-cri-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
