import { createConnection, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type CallContext,
  Code,
  DATA_BYTES_MAX,
  type DecodedFrame,
  encodeFrame,
  FrameDecoder,
  FrameType,
  type Services,
  serve,
  TtrpcClient,
  TtrpcError,
} from 'ttrpc';
import { stringField } from 'ttrpc/protobuf';
import * as assert from 'uvu/assert';

const never = new Promise<Buffer>(() => undefined);
/** What the last call of Echo or Never was given. */
export const seen: { context?: CallContext } = {};

const services: Services = {
  'test.Echo': {
    Echo: (payload, context) => {
      seen.context = context;
      return payload;
    },
    Later: async (payload) => {
      await sleep(1);
      return payload;
    },
    Never: (_payload, context) => {
      seen.context = context;
      return never;
    },
    Large: () => Buffer.alloc(DATA_BYTES_MAX),
    Fail: () => {
      throw new TtrpcError(Code.NotFound, 'no such thing', {
        details: [{ typeUrl: 'test/Detail', value: Buffer.from('why') }],
      });
    },
    Break: async () => {
      throw new Error('broken');
    },
    Count: {
      serverStreams: true,
      handle: async (stream) => {
        for await (const request of stream)
          for (let number = 0; number < Number(request.toString()); number++)
            await stream.send(Buffer.from(`${number}`));
        return undefined;
      },
    },
    Sum: {
      serverStreams: false,
      handle: async (stream) => {
        let sum = 0;
        for await (const message of stream) sum += Number(message.toString());
        return Buffer.from(`${sum}`);
      },
    },
    Talk: {
      serverStreams: true,
      handle: async (stream) => {
        for await (const message of stream) {
          await stream.send(message);
          if (message.toString() === 'stop') throw new TtrpcError(Code.Aborted, 'told to stop');
        }
        return undefined;
      },
    },
    Flood: {
      serverStreams: true,
      handle: async (stream) => {
        for (let count = 0; count < 10_000; count++) await stream.send(Buffer.alloc(1000));
        return undefined;
      },
    },
  },
};

/** A client and a server of one echo service over a real socket. */
export interface Pair extends AsyncDisposable {
  readonly client: TtrpcClient;
  readonly socket: Socket;
  /** Sends raw bytes on a connection of its own, and gives the frames that are answered. */
  raw(bytes: Buffer, answers: number): Promise<DecodedFrame[]>;
}

export async function startPair(): Promise<Pair> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    serve(socket, services);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const socket = createConnection(port, '127.0.0.1');
  const client = new TtrpcClient(socket);
  return {
    client,
    socket,
    raw: async (bytes, answers) => {
      const raw = createConnection(port, '127.0.0.1');
      const decoder = new FrameDecoder();
      const frames: DecodedFrame[] = [];
      raw.write(bytes);
      for await (const chunk of raw) {
        decoder.feed(chunk as Buffer);
        frames.push(...decoder.collect());
        if (frames.length >= answers) break;
      }
      return frames;
    },
    [Symbol.asyncDispose]: async () => {
      client.close();
      for (const accepted of sockets) accepted.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export async function errorOf(promise: Promise<unknown>): Promise<TtrpcError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.instance(error, TtrpcError);
  return error as TtrpcError;
}

export async function collect(stream: AsyncIterable<Buffer>): Promise<string[]> {
  const texts: string[] = [];
  for await (const message of stream) texts.push(message.toString());
  return texts;
}

export function requestFrame(streamId: number, method: string, flags = 0): Buffer {
  const data = Buffer.concat([stringField(1, 'test.Echo'), stringField(2, method)]);
  return encodeFrame({ streamId, type: FrameType.Request, flags, data });
}
