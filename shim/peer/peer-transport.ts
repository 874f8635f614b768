import { createServer, connect as netConnect, type Server, type Socket } from 'node:net';

/** How connections are made. TLS takes the place of this without anything else changing. */
export interface PeerTransport {
  /** Dials. Bytes are read into what `nextBuffer` gives and handed to `onRead`, which pauses by returning false. */
  connect(options: DialOptions): Socket;
  /** Makes a server that is not listening yet; its `connection` events carry sockets ready for use. */
  createServer(): Server;
}

export interface DialOptions {
  readonly host: string;
  readonly port: number;
  readonly nextBuffer: () => Buffer;
  readonly onRead: (bytes: Buffer) => boolean;
}

/** A peer that vanished without a word is noticed by the kernel after this long without traffic. */
const KEEP_ALIVE_MS = 15_000;

/** Plain TCP: for loopback, and for networks whose owner said that they are trusted. */
export const plainTransport: PeerTransport = {
  connect: ({ host, port, nextBuffer, onRead }) =>
    netConnect({
      host,
      port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_MS,
      onread: {
        // Node asks for a buffer before each read, so bytes of a chunk land where they stay.
        buffer: nextBuffer,
        callback: (count, bytes) => onRead((bytes as Buffer).subarray(0, count)),
      },
    }),
  createServer: () => createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS }),
};
