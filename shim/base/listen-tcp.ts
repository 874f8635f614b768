import type { AddressInfo, Server } from 'node:net';
import { ErrorCode, nodeErrorCode, ShoalError } from './errors.ts';

export interface ListenAddress {
  readonly host: string;
  /** 0 takes any free one. */
  readonly port: number;
}

/**
 * Starts a server on a TCP port and gives the port.
 * @param protocol For messages: `HTTP`, `metrics`.
 * @throws ListenFailed
 */
export async function listenTcp(
  server: Server,
  { host, port }: ListenAddress,
  protocol: string,
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen({ host, port }, resolve);
  try {
    await promise;
  } catch (cause) {
    const state = `${nodeErrorCode(cause) ?? 'an error'}, a free port is wanted`;
    const message = `Cannot listen for ${protocol} on "${host}:${port}": ${state}`;
    throw new ShoalError(ErrorCode.ListenFailed, message, { cause });
  }
  server.off('error', reject);
  return (server.address() as AddressInfo).port;
}
