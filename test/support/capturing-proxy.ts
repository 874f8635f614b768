import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** Rewrites bytes on their way; must keep their number, for frames tell their length. */
export type Rewrite = (bytes: Buffer) => Buffer;

export interface ProxyOptions {
  /** `127.0.0.1:PORT` */
  readonly target: string;
  /** Applied to what the target sends. */
  readonly fromTarget?: Rewrite;
  /** Applied to what the dialer sends. */
  readonly toTarget?: Rewrite;
}

/** A TCP proxy that remembers all it has carried, in both directions. */
export interface CapturingProxy extends AsyncDisposable {
  readonly host: string;
  captured(): Buffer;
  stop(): Promise<void>;
}

export async function startCapturingProxy(
  options: (own: string) => ProxyOptions,
  port = 0,
): Promise<CapturingProxy> {
  const pieces: Buffer[] = [];
  const sockets = new Set<Socket>();
  let host = '';
  const server = createServer((dialer) => {
    const { target, fromTarget, toTarget } = options(host);
    const backend = connect(Number(target.split(':')[1]), '127.0.0.1');
    join(dialer, backend, toTarget);
    join(backend, dialer, fromTarget);
  });
  const join = (from: Socket, to: Socket, rewrite: Rewrite = (bytes) => bytes): void => {
    sockets.add(from);
    from.on('data', (bytes: Buffer) => {
      pieces.push(bytes);
      if (!to.write(rewrite(bytes))) from.pause();
    });
    to.on('drain', () => from.resume());
    from.on('error', () => to.destroy());
    from.on('close', () => {
      sockets.delete(from);
      to.end();
    });
  };
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const stop = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  };
  return { host, captured: () => Buffer.concat(pieces), stop, [Symbol.asyncDispose]: stop };
}

/** Puts one name of a peer for another of the same length. */
export function renaming(names: readonly (readonly [from: string, to: string])[]): Rewrite {
  return (bytes) => {
    // latin1 maps each byte to one character and back.
    let text = bytes.toString('latin1');
    for (const [from, to] of names) text = text.replaceAll(from, to);
    return Buffer.from(text, 'latin1');
  };
}
