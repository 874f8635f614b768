import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { PlainHosts } from '../../../shim/registry/plain-hosts.ts';
import { MANIFEST, MANIFEST_TYPE, neverAborted, originOf } from './loopback-registry.ts';

const signal = neverAborted();

/** A registry without TLS that counts who tried it with TLS. */
async function startPlainRegistry() {
  const counts = { tls: 0, plain: 0 };
  let status = 200;
  const server = createServer((_, response) => {
    counts.plain += 1;
    response.writeHead(status, { 'content-type': MANIFEST_TYPE }).end(MANIFEST);
  });
  server.on('clientError', (_, socket) => {
    counts.tls += 1;
    socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    host,
    counts,
    answer: (given: number): void => {
      status = given;
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

async function resolveOnce(registry: { readonly host: string }, plainHosts?: PlainHosts): Promise<void> {
  const limits = { retriesMax: 0 };
  await using origin = originOf(registry, { limits, ...(plainHosts && { plainHosts }) });
  await origin.resolve(signal);
}

test('a registry of this machine that answers without TLS is not tried with TLS by the next pull', async () => {
  await using registry = await startPlainRegistry();
  const plainHosts = new PlainHosts();
  await resolveOnce(registry, plainHosts);
  await resolveOnce(registry, plainHosts);
  assert.equal(registry.counts, { tls: 1, plain: 2 });
  await resolveOnce(registry);
  assert.equal(registry.counts, { tls: 2, plain: 3 });
});

test('what it answers where TLS is spoken makes the next pull try that first', async () => {
  await using registry = await startPlainRegistry();
  const plainHosts = new PlainHosts();
  await resolveOnce(registry, plainHosts);
  registry.answer(400);
  await resolveOnce(registry, plainHosts).then(
    () => assert.unreachable(),
    () => undefined,
  );
  registry.answer(200);
  await resolveOnce(registry, plainHosts);
  assert.is(registry.counts.tls, 2);
});

test('PlainHosts keeps what it knows for a minute, and of no more than 64 hosts', () => {
  const known = new PlainHosts();
  known.note('a', 0);
  assert.ok(known.has('a', 59_999));
  assert.not(known.has('a', 60_000));
  for (let index = 0; index < 65; index++) known.note(`host-${index}`, 0);
  assert.not(known.has('host-0', 1));
  assert.ok(known.has('host-1', 1));
  known.forget('host-1');
  assert.not(known.has('host-1', 1));
});

test.run();
