import type { Duplex } from 'node:stream';
import { serve, TtrpcClient, type TtrpcError } from 'ttrpc';
import { PLUGIN_CONNECTION, RUNTIME_CONNECTION } from './mux.ts';
import { MuxConnection } from './mux-connection.ts';
import { encodeRegisterPlugin, RUNTIME_SERVICE } from './nri-messages.ts';
import { type PluginEvents, pluginServices } from './plugin-service.ts';

/** The runtime gives a new connection this long to register, ms. */
const REGISTRATION_TIMEOUT_MS = 5000;

export interface SessionOptions {
  readonly name: string;
  /** Two digits: the place among the node's plugins. */
  readonly index: string;
  readonly events: PluginEvents;
  readonly onProblem: (error: unknown) => void;
  readonly onRegistered: () => void;
}

/**
 * Registers over a connection to the runtime, and answers its events until the connection ends or the signal is aborted.
 * @throws TtrpcError when the runtime refuses the registration.
 */
export async function runSession(
  socket: Duplex,
  options: SessionOptions,
  signal: AbortSignal,
): Promise<TtrpcError> {
  const mux = new MuxConnection(socket, [PLUGIN_CONNECTION, RUNTIME_CONNECTION]);
  // Events follow the registration at once, so the service is there before it.
  const server = serve(mux.channel(PLUGIN_CONNECTION), pluginServices(options.events, options.onProblem));
  const client = new TtrpcClient(mux.channel(RUNTIME_CONNECTION));
  const stop = (): void => client.close();
  signal.addEventListener('abort', stop, { once: true });
  try {
    const request = encodeRegisterPlugin(options.name, options.index);
    const timeoutMs = REGISTRATION_TIMEOUT_MS;
    await client.call(RUNTIME_SERVICE, 'RegisterPlugin', request, { timeoutMs, signal });
    options.onRegistered();
    return await Promise.race([server.closed, client.closed]);
  } finally {
    signal.removeEventListener('abort', stop);
    client.close();
    server.close();
    socket.destroy();
  }
}
