import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode } from '../../../shim/base/errors.ts';
import { parseReference } from '../../../shim/registry/reference.ts';
import {
  assertFails,
  BLOB,
  BLOB_DIGEST,
  challengeBasic,
  MANIFEST,
  MANIFEST_DIGEST,
  MANIFEST_TYPE,
  neverAborted,
  originOf,
  readRange,
  sendRange,
  startServer,
  until,
  wellBehaved,
} from './loopback-registry.ts';

const signal = neverAborted();

test('documents leave their connection to the next request, whether asked for by HEAD or GET', async () => {
  for (const held of [MANIFEST, undefined]) {
    const ports = new Set<number | undefined>();
    await using server = await startServer((request, response) => {
      ports.add(response.socket?.remotePort);
      wellBehaved(request, response);
    });
    await using origin = originOf(server, { heldManifest: () => sleep(5, held) });
    for (let round = 0; round < 2; round++) await origin.resolve(signal);
    await readRange(origin, 0, 10);
    assert.is(ports.size, 1);
  }
});

test('a registry that sends a body after a HEAD is read from all the same', async () => {
  await using server = await startServer((request, response) => {
    if (request.method !== 'HEAD') return wellBehaved(request, response);
    const head = [
      'HTTP/1.1 200 OK',
      `content-type: ${MANIFEST_TYPE}`,
      `docker-content-digest: ${MANIFEST_DIGEST}`,
      `content-length: ${MANIFEST.length}`,
    ];
    return response.socket?.write(`${head.join('\r\n')}\r\n\r\n${MANIFEST}`);
  });
  await using origin = originOf(server, { heldManifest: async () => MANIFEST });
  for (let round = 0; round < 3; round++) {
    assert.is((await origin.resolve(signal)).descriptor.digest, MANIFEST_DIGEST);
    assert.ok(BLOB.subarray(0, 10).equals(await readRange(origin, 0, 10)));
  }
});

test('challenges, redirects and documents leave their connections to the next request', async () => {
  const ports = new Set<number | undefined>();
  await using server = await startServer((request, response) => {
    ports.add(response.socket?.remotePort);
    if (request.headers.authorization === undefined) challengeBasic(response);
    else if (request.path.endsWith(BLOB_DIGEST))
      response.writeHead(307, { location: '/moved', 'content-length': 0 }).end();
    else if (request.path === '/moved') sendRange(request, response);
    else wellBehaved(request, response);
  });
  await using origin = originOf(server, {
    credentials: { username: 'me', password: 'hunter22' },
    reference: parseReference(`${server.host}/library/app:v1`),
  });
  await origin.resolve(signal);
  await origin.resolve(signal);
  await readRange(origin, 0, 10);
  await origin.resolve(signal);
  assert.is(server.seen.length, 6);
  assert.ok(ports.size <= 2, `${ports.size} connections`);
});

test('readBlob() reads no faster than its consumer, and drops the connection when that goes away', async () => {
  const total = 64 * 1024 * 1024;
  let sentBytes = 0;
  await using server = await startServer((_, response) => {
    response.writeHead(200, { 'content-length': total });
    const block = Buffer.alloc(64 * 1024);
    const send = () => {
      while (sentBytes < total && !response.destroyed) {
        sentBytes += block.length;
        if (!response.write(block)) return response.once('drain', send);
      }
      return response;
    };
    send();
  });
  await using origin = originOf(server);
  const body = await origin.readBlob(BLOB_DIGEST, total, { offsetBytes: 0, lengthBytes: total }, signal);
  for await (const chunk of body) {
    assert.ok(chunk.length > 0);
    break;
  }
  await until(async () => (await server.connections()) === 0);
  assert.ok(sentBytes < total / 2, `${sentBytes} bytes were sent`);
});

test('readBlob() stops within a second when its caller gives up', async () => {
  await using server = await startServer((_, response) => {
    response.writeHead(206, { 'content-range': `bytes 0-9/${BLOB.length}`, 'content-length': 10 });
    response.write('12345');
  });
  await using origin = originOf(server);
  const stop = new AbortController();
  const body = await origin.readBlob(
    BLOB_DIGEST,
    BLOB.length,
    { offsetBytes: 0, lengthBytes: 10 },
    stop.signal,
  );
  const reading = body.toArray();
  const startMs = Date.now();
  setTimeout(() => stop.abort(), 20);
  await assertFails(reading, ErrorCode.Cancelled);
  assert.ok(Date.now() - startMs < 1000);
  await until(async () => (await server.connections()) === 0);
});

test('resolve() rejects at once with Cancelled when its caller gives up, and when the origin is closed', async () => {
  await using server = await startServer(() => {});
  const origin = originOf(server);
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 20);
  await assertFails(origin.resolve(stop.signal), ErrorCode.Cancelled);
  await assertFails(origin.resolve(stop.signal), ErrorCode.Cancelled);
  setTimeout(() => origin.close(), 20);
  await assertFails(origin.resolve(signal), ErrorCode.Cancelled);
  await assertFails(origin.resolve(signal), ErrorCode.Cancelled);
});

test.run();
