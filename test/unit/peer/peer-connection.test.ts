import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, ShoalError } from '../../../shim/base/errors.ts';
import { ChunkBufferPool } from '../../../shim/peer/chunk-buffer-pool.ts';
import { encodeChunkHead, encodeHello } from '../../../shim/peer/frame.ts';
import { PeerConnection } from '../../../shim/peer/peer-connection.ts';
import { plainTransport } from '../../../shim/peer/peer-transport.ts';

const KIB = 1024;
const CHUNK_BYTES = 240 * KIB;
const about = {
  versionMin: 1,
  versionMax: 1,
  self: '127.0.0.1:1',
  zone: '',
  nodeName: 'test',
  role: 1 as const,
};

/** Receives one chunk of which `send` sends the bytes. Gives what came and why the connection ended, if it did. */
async function receive(
  send: (socket: Socket) => void,
): Promise<{ readonly bytes: Buffer; readonly error: ShoalError | undefined }> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.write(encodeHello({ ...about, nonce: new Uint8Array(16) }));
    socket.write(encodeChunkHead(1, 0, CHUNK_BYTES));
    send(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const end = Promise.withResolvers<ShoalError | undefined>();
  const buffer = Buffer.alloc(CHUNK_BYTES);
  let filledBytes = 0;
  const filled = (count: number): void => {
    filledBytes += count;
  };
  const ignore = (): void => undefined;
  const target = { buffer, filled, done: () => end.resolve(undefined), broken: ignore };
  const events = { onHello: ignore, onMessage: ignore, onRight: ignore, onChunk: () => target };
  const connection = PeerConnection.dial('127.0.0.1', (server.address() as AddressInfo).port, {
    transport: plainTransport,
    own: about,
    pool: new ChunkBufferPool(CHUNK_BYTES, 8),
    helloTimeoutMs: 5_000,
    events: { ...events, onClose: (_, error) => end.resolve(error) },
  });
  const error = await end.promise;
  connection.close(error as ShoalError);
  server.close();
  return { bytes: buffer.subarray(0, filledBytes), error };
}

const content = Buffer.alloc(CHUNK_BYTES, 'chunk');

test('a chunk arrives whole, however its bytes are cut', async () => {
  const { bytes, error } = await receive((socket) => {
    const sizes = [1, 127 * KIB, 3, 100 * KIB];
    let at = 0;
    const next = (): void => {
      const size = sizes.shift() ?? CHUNK_BYTES - at;
      socket.write(content.subarray(at, at + size));
      at += size;
      if (at < CHUNK_BYTES) setImmediate(next);
    };
    next();
  });
  assert.is(error, undefined);
  assert.ok(bytes.equals(content));
});

test('a peer that sends little at a time is kept as long as it sends enough in all', async () => {
  let sent = 0;
  const { bytes, error } = await receive((socket) => {
    // 50 KiB a second: less in 2 s than a read waits for.
    const timer = setInterval(() => {
      socket.write(content.subarray(sent, sent + 5 * KIB));
      sent += 5 * KIB;
      if (sent >= CHUNK_BYTES) clearInterval(timer);
    }, 100);
    socket.on('close', () => clearInterval(timer));
  });
  assert.is(error, undefined);
  assert.ok(bytes.equals(content));
});

test('a peer that sends too little is hung up on within three seconds', async () => {
  const startedMs = performance.now();
  const { error } = await receive((socket) => socket.write(content.subarray(0, 30 * KIB)));
  assert.is(error?.code, 'PEER_UNAVAILABLE');
  assert.match(error?.message ?? '', /it sent [1-9]\d* bytes in 2000 ms/);
  assert.ok(performance.now() - startedMs < 3_000);
});

test('what a peer sent before it hung up is told as broken', async () => {
  const { error } = await receive((socket) => socket.end(content.subarray(0, 10 * KIB)));
  assert.is(error?.code, 'PEER_UNAVAILABLE');
});

test('a hello that came while this node was busy is read before the peer is called silent', async () => {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.write(encodeHello({ ...about, nonce: new Uint8Array(16) }));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const end = Promise.withResolvers<string>();
  const ignore = (): void => undefined;
  const connection = PeerConnection.dial('127.0.0.1', (server.address() as AddressInfo).port, {
    transport: plainTransport,
    own: about,
    pool: new ChunkBufferPool(CHUNK_BYTES, 8),
    helloTimeoutMs: 50,
    events: {
      onHello: () => end.resolve('hello'),
      onMessage: ignore,
      onRight: ignore,
      onChunk: () => undefined,
      onClose: (_, error) => end.resolve(error.message),
    },
  });
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  assert.is(await end.promise, 'hello');
  connection.close(new ShoalError(ErrorCode.Cancelled, 'the test is over'));
  server.close();
});

test('a chunk counts as sent when it leaves, not when the kernel could hold it', async () => {
  const accepted = Promise.withResolvers<PeerConnection>();
  const server = plainTransport.createServer().listen(0, '127.0.0.1');
  const ignore = (): void => undefined;
  const events = { onMessage: ignore, onRight: ignore, onChunk: () => undefined, onClose: ignore };
  server.on('connection', (socket: Socket) =>
    PeerConnection.accept(socket, {
      transport: plainTransport,
      own: about,
      pool: new ChunkBufferPool(CHUNK_BYTES, 8),
      helloTimeoutMs: 5_000,
      events: { ...events, onHello: (connection) => accepted.resolve(connection) },
    }),
  );
  await once(server, 'listening');
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1').pause();
  client.write(encodeHello({ ...about, self: '127.0.0.1:2', nonce: new Uint8Array(16) }));
  const connection = await accepted.promise;
  let isSent: boolean | undefined;
  const sent = connection.sendChunk(Buffer.alloc(1024 * KIB)).then((whether) => {
    isSent = whether;
  });
  await sleep(300);
  const isSentUnread = isSent;
  client.resume();
  await sent;
  client.destroy();
  server.close();
  assert.is(isSentUnread, undefined, 'a peer that does not read has been sent nothing');
  assert.is(isSent, true);
});

test.run();
