import type { AddressInfo, Server } from 'node:net';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';
import { isLoopback } from './peer-address.ts';
import type { PeerTransport } from './peer-transport.ts';

export interface PeerListenOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** Plaintext is allowed on addresses that other machines reach. */
  readonly insecure: boolean;
}

/**
 * Starts to listen for peers.
 * @throws ConfigInvalid for plaintext where other machines can reach it, ListenFailed.
 */
export async function listenForPeers(
  transport: PeerTransport,
  { host, port, insecure }: PeerListenOptions,
): Promise<{ readonly server: Server; readonly port: number }> {
  if (!transport.isSecure && !isLoopback(host) && !insecure)
    throw new ShoalError(
      ErrorCode.ConfigInvalid,
      `Cannot listen for peers on "${host}": peers speak plaintext, certificates (peers.tls), a loopback address or "peers.insecure: true" wanted`,
    );
  const server = transport.createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      const state = nodeErrorCode(error) ?? 'unknown failure';
      const message = `Cannot listen for peers on "${host}:${port}": ${state}, a free port of this machine wanted`;
      reject(new ShoalError(ErrorCode.ListenFailed, message, { cause: error }));
    });
    server.listen(port, host, resolve);
  });
  return { server, port: (server.address() as AddressInfo).port };
}
