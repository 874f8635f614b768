import { setTimeout as sleep } from 'node:timers/promises';
import { Client, credentials, type ServiceError } from '@grpc/grpc-js';
import protobuf from 'protobufjs/minimal.js';

/** Between two calls of one loop: kubelet asks a few times a second, this is a hundred times as often. */
const PAUSE_MS = 10;
/** No call but a pull takes anything like this long. */
const CALL_TIMEOUT_MS = 10_000;

export interface CriLoad {
  /** Calls that were answered, by method. */
  readonly answered: ReadonlyMap<string, number>;
  /** Calls that failed: method, code and message. */
  readonly failures: readonly string[];
  /** The longest that a call took, ms. */
  readonly slowestMs: number;
  /** Forgets what was counted. */
  reset(): void;
  /** Resolves after this many further answers. */
  answers(count: number): Promise<void>;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Asks a CRI socket what kubelet asks it for every pod, all the time, over one connection for each method. */
export function startCriLoad(socket: string, image: string): CriLoad {
  const answered = new Map<string, number>();
  const failures: string[] = [];
  let slowestMs = 0;
  let stopped = false;
  const clients: Client[] = [];
  const loop = async (method: string, request: Buffer): Promise<void> => {
    const client = new Client(`unix:${socket}`, credentials.createInsecure(), {
      'grpc.default_authority': 'localhost',
      'grpc.use_local_subchannel_pool': 1,
    });
    clients.push(client);
    while (!stopped) {
      const startedMs = performance.now();
      try {
        await callCri(client, method, request);
        answered.set(method, (answered.get(method) ?? 0) + 1);
      } catch (error) {
        failures.push(`${method}: ${(error as ServiceError).code} ${(error as ServiceError).details}`);
      }
      slowestMs = Math.max(slowestMs, performance.now() - startedMs);
      await sleep(PAUSE_MS);
    }
  };
  const loops = [
    loop('ImageStatus', imageStatusRequest(image)),
    loop('ListImages', Buffer.alloc(0)),
    loop('ImageFsInfo', Buffer.alloc(0)),
  ];
  const total = (): number => [...answered.values()].reduce((sum, count) => sum + count, 0);
  const stop = async (): Promise<void> => {
    stopped = true;
    await Promise.all(loops);
    for (const client of clients) client.close();
  };
  return {
    answered,
    failures,
    get slowestMs() {
      return slowestMs;
    },
    reset: () => {
      answered.clear();
      failures.length = 0;
      slowestMs = 0;
    },
    answers: async (count) => {
      const wanted = total() + count;
      while (total() < wanted) await sleep(PAUSE_MS);
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** One unary call of the image service, raw bytes in and out. */
export function callCri(client: Client, method: string, request: Buffer): Promise<Buffer> {
  const same = (bytes: Buffer): Buffer => bytes;
  const path = `/runtime.v1.ImageService/${method}`;
  const options = { deadline: Date.now() + CALL_TIMEOUT_MS };
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, same, same, request, options, (error, answer) => {
      if (error !== null) reject(error);
      else resolve(answer ?? Buffer.alloc(0));
    });
  });
}

/** ImageStatusRequest{1: ImageSpec{1: image}} */
export function imageStatusRequest(image: string): Buffer {
  const writer = protobuf.Writer.create();
  writer.uint32(10).fork().uint32(10).string(image).ldelim();
  return Buffer.from(writer.finish());
}
