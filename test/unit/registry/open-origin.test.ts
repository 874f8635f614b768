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
  sendError,
  sendRange,
  startServer,
  wellBehaved,
  withHosts,
} from './loopback-registry.ts';

const signal = neverAborted();

test('resolve() reads what a tag names, computes its digest and asks the network every time', async () => {
  await using server = await startServer(wellBehaved);
  await using origin = originOf(server);
  const descriptor = { mediaType: MANIFEST_TYPE, digest: MANIFEST_DIGEST, sizeBytes: MANIFEST.length };
  for (let time = 1; time <= 2; time++) {
    const document = await origin.resolve(signal);
    assert.equal(document.descriptor, descriptor);
    assert.ok(MANIFEST.equals(document.bytes));
    assert.is(server.seen.length, time);
  }
  const [request] = server.seen;
  assert.is(`${request?.method} ${request?.path}`, 'GET /v2/library/app/manifests/v1');
  assert.match(request?.headers.accept ?? '', 'application/vnd.oci.image.index.v1+json');
  assert.is(request?.headers['accept-encoding'], 'identity');
  assert.not(origin.hasCredentials);
  assert.ok(origin.isAnonymous);
});

test('resolve() reads what a digest names', async () => {
  await using server = await startServer(wellBehaved);
  const reference = parseReference(`${server.host}/app@${MANIFEST_DIGEST}`);
  await using origin = originOf(server, { reference });
  assert.is((await origin.resolve(signal)).descriptor.digest, MANIFEST_DIGEST);
  assert.is(server.seen[0]?.path, `/v2/app/manifests/${MANIFEST_DIGEST}`);
});

test('resolve() of a manifest that the node holds asks by HEAD only', async () => {
  await using server = await startServer(wellBehaved);
  await using origin = originOf(server, { heldManifest: async () => MANIFEST });
  const { descriptor, bytes } = await origin.resolve(signal);
  assert.equal(descriptor, { mediaType: MANIFEST_TYPE, digest: MANIFEST_DIGEST, sizeBytes: MANIFEST.length });
  assert.ok(MANIFEST.equals(bytes));
  assert.equal(
    server.seen.map((request) => request.method),
    ['HEAD'],
  );
});

test('resolve() reads what the node does not hold, or holds damaged', async () => {
  for (const held of [undefined, Buffer.from('{}')]) {
    await using server = await startServer(wellBehaved);
    await using origin = originOf(server, { heldManifest: async () => held });
    assert.ok(MANIFEST.equals((await origin.resolve(signal)).bytes));
    assert.equal(
      server.seen.map((request) => request.method),
      ['HEAD', 'GET'],
    );
  }
});

test('resolve() serves nothing that the node holds to a caller who may not read it', async () => {
  for (const [status, code] of [
    [401, ErrorCode.Unauthorized],
    [403, ErrorCode.Forbidden],
    [404, ErrorCode.NotFound],
  ] as const) {
    await using server = await startServer((_, response) => {
      response.setHeader('docker-content-digest', MANIFEST_DIGEST);
      sendError(response, status);
    });
    await using origin = originOf(server, { heldManifest: async () => MANIFEST });
    await assertFails(origin.resolve(signal), code);
  }
});

test('a mirror that cannot be reached is asked last for a while', async () => {
  let mirrorIsUp = false;
  await using mirror = await startServer((request, response) => {
    if (mirrorIsUp) wellBehaved(request, response);
    else response.destroy();
  });
  await using server = await startServer(wellBehaved);
  await withHosts(server, `[host."http://${mirror.host}"]`, async (configPath) => {
    await using origin = originOf(server, { configPath });
    for (let time = 0; time < 3; time++) await readRange(origin, 0, 10);
    mirrorIsUp = true;
    await readRange(origin, 0, 10);
  });
  assert.equal([mirror.seen.length, server.seen.length], [1, 4]);
});

test('document() reads manifests and configs by digest', async () => {
  await using server = await startServer((request, response) => {
    if (request.path.includes('/blobs/')) response.end(MANIFEST);
    else wellBehaved(request, response);
  });
  await using origin = originOf(server);
  const descriptor = { mediaType: MANIFEST_TYPE, digest: MANIFEST_DIGEST, sizeBytes: MANIFEST.length };
  assert.ok(MANIFEST.equals((await origin.document('manifest', descriptor, signal)).bytes));
  assert.ok(MANIFEST.equals((await origin.document('config', descriptor, signal)).bytes));
  assert.equal(
    server.seen.map((request) => request.path),
    [`/v2/library/app/manifests/${MANIFEST_DIGEST}`, `/v2/library/app/blobs/${MANIFEST_DIGEST}`],
  );
});

const RANGES: readonly (readonly [name: string, offset: number, length: number])[] = [
  ['the first bytes', 0, 10],
  ['the middle', 1_000_001, 1_500_000],
  ['the last byte', BLOB.length - 1, 1],
  ['all of it', 0, BLOB.length],
];

for (const [name, offset, length] of RANGES) {
  test(`readBlob() reads ${name}`, async () => {
    await using server = await startServer(wellBehaved);
    await using origin = originOf(server);
    assert.ok(BLOB.subarray(offset, offset + length).equals(await readRange(origin, offset, length)));
  });

  test(`readBlob() reads ${name} from a registry without ranges`, async () => {
    await using server = await startServer((_, response) => response.end(BLOB));
    await using origin = originOf(server);
    assert.ok(BLOB.subarray(offset, offset + length).equals(await readRange(origin, offset, length)));
  });
}

test('readBlob() refuses a range outside the blob before asking', async () => {
  await using server = await startServer(wellBehaved);
  await using origin = originOf(server);
  for (const [offset, length] of [
    [BLOB.length, 1],
    [-1, 2],
    [0, 0],
    [0, BLOB.length + 1],
  ] as const)
    await assertFails(readRange(origin, offset, length), ErrorCode.SizeMismatch);
  assert.is(server.seen.length, 0);
});

test('readBlob() follows a redirect to another host without the credentials, and goes there directly next time', async () => {
  await using store = await startServer(sendRange);
  await using server = await startServer((request, response) => {
    if (request.headers.authorization === undefined) return challengeBasic(response);
    response
      .writeHead(307, { location: `http://u:p@${store.host}/signed?sig=${request.path.length}#x` })
      .end();
  });
  await using origin = originOf(server, { credentials: { username: 'me', password: 'hunter22' } });
  await readRange(origin, 0, 100);
  await readRange(origin, 100, 100);
  assert.is(server.seen.length, 2, 'a challenge and a redirect, once');
  assert.is(store.seen.length, 2);
  for (const { headers, path } of store.seen) {
    assert.match(path, '/signed?sig=');
    assert.is(headers.authorization, undefined);
    assert.is(headers.cookie, undefined);
  }
});

test('readBlob() asks the registry again when a redirect target has expired', async () => {
  let isExpired = false;
  await using store = await startServer((request, response) => {
    if (isExpired && request.path === '/signed-1') sendError(response, 403);
    else sendRange(request, response);
  });
  await using server = await startServer((_, response) => {
    response.writeHead(302, { location: `http://${store.host}/signed-${server.seen.length}` }).end();
  });
  await using origin = originOf(server);
  await readRange(origin, 0, 10);
  isExpired = true;
  await readRange(origin, 0, 10);
  assert.equal(
    store.seen.map((request) => request.path),
    ['/signed-1', '/signed-1', '/signed-2'],
  );
});

test('hosts.toml headers go to their host and not to where it redirects', async () => {
  await using store = await startServer(sendRange);
  await using server = await startServer((_, response) => {
    response.writeHead(307, { location: `http://${store.host}/blob` }).end();
  });
  const toml = `server = "http://${server.host}"\n[header]\nx-api-key = "planted-key"`;
  await withHosts(server, toml, async (configPath) => {
    await using origin = originOf(server, { configPath });
    await readRange(origin, 0, 10);
  });
  assert.is(server.seen[0]?.headers['x-api-key'], 'planted-key');
  assert.not.match(JSON.stringify(store.seen), 'planted-key');
});

test('resolve() asks mirrors in order with the namespace, and falls through on each kind of failure', async () => {
  const failures = [404, 401, 403, 500, 503, 418];
  const mirrors = await Promise.all(
    failures.map((status) => startServer((_, response) => sendError(response, status))),
  );
  await using server = await startServer(wellBehaved);
  const tables = mirrors.map((mirror) => `[host."http://${mirror.host}"]`);
  const dead = '[host."http://127.0.0.1:1"]';
  await withHosts(server, [dead, ...tables].join('\n'), async (configPath) => {
    await using origin = originOf(server, { configPath });
    assert.is((await origin.resolve(signal)).descriptor.digest, MANIFEST_DIGEST);
    await readRange(origin, 0, 10);
  });
  for (const mirror of mirrors) {
    assert.equal(
      mirror.seen.map((request) => request.path),
      ['manifests/v1', `blobs/${BLOB_DIGEST}`].map(
        (path) => `/v2/library/app/${path}?ns=${encodeURIComponent(server.host)}`,
      ),
    );
    await mirror[Symbol.asyncDispose]();
  }
  assert.not.match(server.seen[0]?.path ?? '', 'ns=');
});

test('resolve() of a tag asks only hosts that may resolve, blobs come from those that may pull', async () => {
  await using puller = await startServer(wellBehaved);
  await using pusher = await startServer(wellBehaved);
  await using server = await startServer(wellBehaved);
  const toml = `[host."http://${puller.host}"]\ncapabilities = ["pull"]\n[host."http://${pusher.host}"]\ncapabilities = ["push"]`;
  await withHosts(server, toml, async (configPath) => {
    await using origin = originOf(server, { configPath });
    await origin.resolve(signal);
    await readRange(origin, 0, 10);
  });
  assert.equal([puller.seen.length, pusher.seen.length, server.seen.length], [1, 0, 1]);
});

test('a mirror that sends wrong bytes is passed over', async () => {
  await using mirror = await startServer((_, response) => response.end('{"schemaVersion":2}'));
  await using server = await startServer(wellBehaved);
  const reference = parseReference(`${server.host}/library/app@${MANIFEST_DIGEST}`);
  await withHosts(server, `[host."http://${mirror.host}"]`, async (configPath) => {
    await using origin = originOf(server, { configPath, reference });
    assert.is((await origin.resolve(signal)).descriptor.digest, MANIFEST_DIGEST);
  });
  assert.is(mirror.seen.length, 1);
});

test('override_path asks below the path as it is', async () => {
  await using mirror = await startServer(wellBehaved);
  await using server = await startServer(wellBehaved);
  const toml = `[host."http://${mirror.host}/proxy/hub"]\noverride_path = true`;
  await withHosts(server, toml, async (configPath) => {
    await using origin = originOf(server, { configPath });
    await origin.resolve(signal);
  });
  assert.match(mirror.seen[0]?.path ?? '', /^\/proxy\/hub\/library\/app\/manifests\/v1\?/);
});

test("Shoal's own mirror is never asked", async () => {
  await using own = await startServer(wellBehaved);
  await using server = await startServer(wellBehaved);
  await withHosts(server, `[host."http://${own.host}"]`, async (configPath) => {
    await using origin = originOf(server, { configPath, ownAddresses: [own.host] });
    await origin.resolve(signal);
  });
  assert.equal([own.seen.length, server.seen.length], [0, 1]);
});

test('requests to hosts that are not loopback go through the proxy of the environment', async () => {
  await using proxy = await startServer(wellBehaved);
  await withHosts(
    { host: 'registry.example.com' },
    'server = "http://registry.example.com"',
    async (configPath) => {
      const reference = parseReference('registry.example.com/library/app:v1');
      const settings = { httpProxy: `http://user:hunter22@${proxy.host}` };
      await using origin = originOf(proxy, { configPath, reference, proxy: settings });
      await origin.resolve(signal);
    },
  );
  assert.is(proxy.seen[0]?.headers.host, 'registry.example.com');
  assert.is(proxy.seen[0]?.headers['proxy-authorization'], `Basic ${btoa('user:hunter22')}`);
});

test.run();
