import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { monotonicMs } from '../../../shim/cri/monotonic-clock.ts';
import { HttpFront } from '../../../shim/front/http-front.ts';
import { socketDirectory } from '../cri/grpc-peer.ts';

const LOCAL = '127.0.0.1';

async function startFront(agent: { path: string }, options: { port?: number } = {}) {
  const state = { healthy: true, log: [] as string[] };
  const front = new HttpFront({
    listen: { host: LOCAL, port: options.port ?? 0 },
    agent,
    isAgentHealthy: () => state.healthy,
    log: (line) => state.log.push(line),
  });
  await front.start();
  return { front, state, [Symbol.asyncDispose]: () => front.close() };
}

async function startAgent(path: string) {
  const server = createHttpServer((request, response) => response.end(`agent ${request.url}`));
  server.listen(path);
  await once(server, 'listening');
  return {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
    },
  };
}

function connect(front: HttpFront): Socket {
  const socket = createConnection(front.port ?? 0, LOCAL);
  socket.on('error', () => undefined);
  return socket;
}

/** Everything that comes until the other side closes. */
async function ask(front: HttpFront, request: string): Promise<string> {
  const socket = connect(front);
  socket.write(request);
  let text = '';
  for await (const chunk of socket) text += chunk;
  return text;
}

const get = (path: string, method = 'GET') =>
  `${method} ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;

test('HttpFront carries connections to a healthy agent', async () => {
  await using directory = await socketDirectory();
  const path = join(directory.path, 'http.sock');
  await using _agent = await startAgent(path);
  await using side = await startFront({ path });
  assert.match(await ask(side.front, get('/v2/x')), /^HTTP\/1\.1 200 OK\r\n.*agent \/v2\/x$/s);
});

test('HttpFront answers 404 to registry reads and 503 to all else while there is no agent', async () => {
  await using side = await startFront({ path: '/nowhere.sock' });
  side.state.healthy = false;
  for (const [request, wanted] of [
    [get('/v2/'), 404],
    [get('/v2/library/nginx/manifests/1?ns=docker.io'), 404],
    [get('/v2/library/nginx/manifests/1', 'HEAD'), 404],
    [get('/v2x'), 503],
    [get('/accelerator/https://a/v2/b'), 503],
    [get('/v2/library/nginx/blobs/uploads/', 'POST'), 503],
    ['garbage\r\n\r\n', 503],
    ['x'.repeat(20_000), 503],
  ] as const) {
    const answer = await ask(side.front, request);
    assert.is(Number(answer.split(' ')[1]), wanted, request.slice(0, 80));
    assert.match(answer, /Connection: close/);
  }
  assert.match(await ask(side.front, get('/v2/', 'HEAD')), /\r\n\r\n$/);
});

test('HttpFront answers itself when the agent cannot be reached although it is said to be healthy', async () => {
  await using side = await startFront({ path: '/nowhere.sock' });
  assert.match(await ask(side.front, get('/v2/')), /^HTTP\/1\.1 404/);
});

test('HttpFront accepts a connection that says nothing and leaves it alone', async () => {
  await using directory = await socketDirectory();
  const path = join(directory.path, 'http.sock');
  const accepted: Socket[] = [];
  const agent = createServer((socket) => accepted.push(socket.on('error', () => undefined)));
  agent.listen(path);
  await using side = await startFront({ path });
  const silent = connect(side.front);
  await once(silent, 'connect');
  const speaking = connect(side.front);
  speaking.write('x');
  await once(agent, 'connection');
  assert.is(accepted.length, 1);
  assert.not(silent.destroyed);
  speaking.destroy();
  silent.destroy();
  agent.close();
});

test('HttpFront closes carried connections that stand still when the agent hangs, and no others', async () => {
  await using directory = await socketDirectory();
  const path = join(directory.path, 'http.sock');
  const agent = createServer((socket) =>
    socket.on('data', (bytes) => socket.write(bytes)).on('error', () => undefined),
  );
  agent.listen(path);
  await using side = await startFront({ path });
  const client = connect(side.front);
  client.write('echo');
  await once(client, 'data');
  side.front.onAgentUnhealthy(monotonicMs());
  client.write('again');
  assert.is(String((await once(client, 'data'))[0]), 'again');
  side.front.onAgentUnhealthy(monotonicMs() + 5000);
  await once(client, 'close');
  agent.close();
});

test('HttpFront says that its port is taken and goes on without it', async () => {
  const other = createServer();
  other.listen(0, LOCAL);
  await once(other, 'listening');
  const address = other.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  await using side = await startFront({ path: '/nowhere.sock' }, { port });
  assert.equal(side.state.log, [`Cannot listen on "${LOCAL}:${port}": EADDRINUSE`]);
  assert.is(side.front.port, undefined);
  other.close();
});

test.run();
