import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** A TCP proxy that remembers all it has carried, in both directions. */
export interface CapturingProxy extends AsyncDisposable {
  readonly host: string;
  captured(): Buffer;
  stop(): Promise<void>;
}

/** @param target `127.0.0.1:PORT` */
export async function startCapturingProxy(target: string, port = 0): Promise<CapturingProxy> {
  const pieces: Buffer[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((dialer) => {
    const backend = connect(Number(target.split(':')[1]), '127.0.0.1');
    join(dialer, backend);
    join(backend, dialer);
  });
  const join = (from: Socket, to: Socket): void => {
    sockets.add(from);
    from.on('data', (bytes: Buffer) => {
      pieces.push(bytes);
      if (!to.write(bytes)) from.pause();
    });
    to.on('drain', () => from.resume());
    from.on('error', () => to.destroy());
    from.on('close', () => {
      sockets.delete(from);
      to.end();
    });
  };
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const stop = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  };
  return { host, captured: () => Buffer.concat(pieces), stop, [Symbol.asyncDispose]: stop };
}
