import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { PodNotice, PullResult } from '../../shim/agent/control-protocol.ts';
import { eventually } from './pull-site.ts';
import { makeTemporaryRoot } from './real/temporary-root.ts';

export interface ToldPods {
  readonly path: string;
  readonly body: {
    readonly pods?: readonly PodNotice[];
    readonly podUid?: string;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly warm?: boolean;
    readonly name?: string;
  };
}

/** The pods' part of an agent's control socket, in the test's own process: it tells results when the test wants it to. */
export interface PodListener extends Disposable {
  readonly socketPath: string;
  readonly told: readonly ToldPods[];
  /** Everything told at this path so far. */
  at(path: string): readonly ToldPods[];
  /** Waits until the count of messages at the path is this at least. */
  waitFor(path: string, count: number): Promise<readonly ToldPods[]>;
  /** Sends a line to every reader of results that is there, and to each that comes later. */
  tellResult(result: Partial<PullResult>): void;
  readerCount(): number;
  /** From now on answers nothing, and takes new connections all the same: like a stopped process. */
  freeze(): void;
  thaw(): void;
  /** Answers messages about pods with this status. */
  answerWith(status: number): void;
  /** Cuts all connections. */
  disconnect(): void;
}

export async function startPodListener(): Promise<PodListener> {
  const root = makeTemporaryRoot('pods');
  const socketPath = root.socketPath('control.sock');
  const told: ToldPods[] = [];
  const results: string[] = [];
  const readers = new Set<ServerResponse>();
  const sockets = new Set<Socket>();
  const held: (() => void)[] = [];
  let [isFrozen, status] = [false, 200];
  const whenThawed = (): Promise<void> =>
    isFrozen ? new Promise((resolve) => held.push(resolve)) : Promise.resolve();
  const server = createServer(async (request, response) => {
    await whenThawed();
    if (request.method === 'GET') {
      response.writeHead(200).flushHeaders();
      for (const line of results) response.write(line);
      readers.add(response);
      response.once('close', () => readers.delete(response));
      return;
    }
    told.push({ path: request.url ?? '', body: JSON.parse(await textOf(request)) });
    response.writeHead(status).end('{"code":"TEST","message":"as told"}\n');
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  const disconnect = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  const at = (path: string): readonly ToldPods[] => told.filter((message) => message.path === path);
  return {
    socketPath,
    told,
    at,
    waitFor: async (path, count) => {
      const found = await eventually(
        () => at(path),
        (messages) => messages.length >= count,
      );
      if (found.length >= count) return found;
      throw new Error(`Cannot wait for ${count} messages at "${path}": found ${JSON.stringify(told)}`);
    },
    tellResult: (result) => {
      const whole: PullResult = { ...plainResult, endedAtMs: Date.now(), ...result };
      const line = `${JSON.stringify(whole)}\n`;
      results.push(line);
      for (const reader of readers) reader.write(line);
    },
    readerCount: () => readers.size,
    freeze: () => {
      isFrozen = true;
    },
    thaw: () => {
      isFrozen = false;
      for (const release of held.splice(0)) release();
    },
    answerWith: (next) => {
      status = next;
    },
    disconnect,
    [Symbol.dispose]: () => {
      server.close();
      disconnect();
      root.remove();
    },
  };
}

const plainResult: Omit<PullResult, 'endedAtMs'> = {
  image: 'registry.test/app:1',
  accelerated: true,
  reason: 'accelerated',
  seconds: 1.5,
  bytes: { origin: 0, peer: 10, cache: 0 },
};

async function textOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}
