import { createServer, type Socket } from 'node:net';
import { serve, TtrpcClient } from 'ttrpc';
import { readFields } from 'ttrpc/protobuf';
import { PLUGIN_CONNECTION, RUNTIME_CONNECTION } from '../../nri/mux.ts';
import { MuxConnection } from '../../nri/mux-connection.ts';
import { PLUGIN_SERVICE, RUNTIME_SERVICE } from '../../nri/nri-messages.ts';
import { makeTemporaryRoot } from './real/temporary-root.ts';

/** What the runtime gives a plugin for each call, ms. */
const REQUEST_TIMEOUT_MS = 2000;

/** A plugin that has connected and registered. */
export interface RegisteredPlugin {
  readonly name: string;
  readonly index: string;
  /** A call of the Plugin service, with what an NRI runtime gives it of time. */
  call(method: string, payload: Buffer): Promise<Buffer>;
  readonly socket: Socket;
}

/** The runtime's side of NRI's socket: as little as plugins need, for events that containerd would not send. */
export interface NriRuntime extends Disposable {
  readonly socketPath: string;
  /** The next plugin that registers. */
  nextPlugin(): Promise<RegisteredPlugin>;
}

export async function startNriRuntime(): Promise<NriRuntime> {
  const root = makeTemporaryRoot('nri');
  const socketPath = root.socketPath('nri.sock');
  const sockets = new Set<Socket>();
  const registered: RegisteredPlugin[] = [];
  const waiters: ((plugin: RegisteredPlugin) => void)[] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    accept(socket, (plugin) => {
      const waiter = waiters.shift();
      if (waiter === undefined) registered.push(plugin);
      else waiter(plugin);
    });
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  return {
    socketPath,
    nextPlugin: () => {
      const plugin = registered.shift();
      return plugin === undefined ? new Promise((resolve) => waiters.push(resolve)) : Promise.resolve(plugin);
    },
    [Symbol.dispose]: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      root.remove();
    },
  };
}

function accept(socket: Socket, onRegistered: (plugin: RegisteredPlugin) => void): void {
  const mux = new MuxConnection(socket, [PLUGIN_CONNECTION, RUNTIME_CONNECTION]);
  const client = new TtrpcClient(mux.channel(PLUGIN_CONNECTION));
  serve(mux.channel(RUNTIME_CONNECTION), {
    [RUNTIME_SERVICE]: {
      RegisterPlugin: (bytes) => {
        const texts = new Map<number, string>();
        readFields(bytes, ({ number, bytes: content }) => texts.set(number, content.toString()));
        const call: RegisteredPlugin['call'] = (method, payload) =>
          client.call(PLUGIN_SERVICE, method, payload, { timeoutMs: REQUEST_TIMEOUT_MS });
        onRegistered({ name: texts.get(1) ?? '', index: texts.get(2) ?? '', call, socket });
        return Buffer.alloc(0);
      },
    },
  });
}
