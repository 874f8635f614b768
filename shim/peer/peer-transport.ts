import { createServer, connect as netConnect, type Server, type Socket } from 'node:net';
import { setReceiveLowWater, setUnsentLowWater } from '../base/posix.ts';
import type { PeerId } from '../swarm/messages.ts';

/** How connections are made: in the clear, or with TLS. */
export interface PeerTransport {
  /** Nobody between two peers can read or change what they say, and both have shown who they are. */
  readonly isSecure: boolean;
  /** What a server of `createServer` emits with each socket that is ready for use. */
  readonly readyEvent: 'connection' | 'secureConnection';
  /** Dials. Bytes are read into what `nextBuffer` gives and handed to `onRead`, which pauses by returning false. */
  connect(options: DialOptions): Socket;
  /** Lets the next read wait for `count` bytes, which must be on their way: fewer reads, and larger ones. */
  gather(socket: Socket, count: number): void;
  /** Makes a server that is not listening yet. */
  createServer(): Server;
  /** Who is at the other end; undefined where that cannot be told. Only for sockets that data has come from. */
  identify(socket: Socket): PeerIdentity | undefined;
}

/** What the other end of a connection has proven to be. */
export interface PeerIdentity {
  /** Whether it may take part as `peer`. `names` are other names that members of that address are known by. */
  mayBe(peer: PeerId, names: readonly string[]): boolean;
  /** The same bytes at both ends, and at no other connection. */
  readonly binding: Uint8Array;
}

export interface DialOptions {
  readonly host: string;
  readonly port: number;
  readonly nextBuffer: () => Buffer;
  readonly onRead: (bytes: Buffer) => boolean;
}

/** A peer that vanished without a word is noticed by the kernel after this long without traffic. */
const KEEP_ALIVE_MS = 15_000;

export const SOCKET_OPTIONS = {
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: KEEP_ALIVE_MS,
} as const;

/** Plain TCP: for loopback, and for networks whose owner said that they are trusted. */
export const plainTransport: PeerTransport = {
  isSecure: false,
  readyEvent: 'connection',
  connect: (options) => netConnect({ ...SOCKET_OPTIONS, ...placeOf(options), onread: readInPlace(options) }),
  gather: (socket, count) => {
    const fd = descriptorOf(socket);
    if (fd >= 0) setReceiveLowWater(fd, count);
  },
  createServer: () => createServer(SOCKET_OPTIONS),
  identify: () => undefined,
};

/**
 * What may wait in the kernel to be sent, bytes a connection: enough until a busy node writes again, also at 10 Gbit/s, and 40 ms of a link of
 * 100 Mbit/s. Eight nodes on such links gain as much by it as by a quarter of it.
 */
const UNSENT_BYTES = 512 * 1024;

/**
 * Keeps the kernel from taking chunks long before they are sent (it would take 4 MB): an upload slot would be free before its chunk
 * has left, so that some nodes would be asked for more than their share, and requests would wait behind those chunks.
 */
export function keepUnsentShort(socket: Socket): void {
  const fd = descriptorOf(socket);
  if (fd >= 0) setUnsentLowWater(fd, UNSENT_BYTES);
}

/** Negative when there is none (any more). Node has no public name for it. */
function descriptorOf(socket: Socket): number {
  return (socket as Socket & { readonly _handle?: { readonly fd?: number } | null })._handle?.fd ?? -1;
}

export function placeOf({ host, port }: DialOptions): { readonly host: string; readonly port: number } {
  return { host, port };
}

/** Node asks for a buffer before each read, so bytes of a chunk land where they stay. */
export function readInPlace({ nextBuffer, onRead }: DialOptions) {
  return {
    buffer: nextBuffer,
    callback: (count: number, bytes: Uint8Array): boolean => onRead((bytes as Buffer).subarray(0, count)),
  };
}
