import type { ServerResponse } from 'node:http';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Descriptor } from '../../../shim/base/descriptor.ts';
import { digestOf } from '../../../shim/base/digest.ts';
import { ErrorCode } from '../../../shim/base/errors.ts';
import { MANIFEST_BYTES_MAX } from '../../../shim/registry/manifest.ts';
import type { Origin } from '../../../shim/registry/origin.ts';
import { parseReference } from '../../../shim/registry/reference.ts';
import {
  assertFails,
  BLOB,
  type Handler,
  MANIFEST,
  MANIFEST_DIGEST,
  MANIFEST_TYPE,
  neverAborted,
  originOf,
  readRange,
  sendError,
  sendManifest,
  startServer,
  wellBehaved,
} from './loopback-registry.ts';

const signal = neverAborted();
const resolve = (origin: Origin) => origin.resolve(signal);
const document =
  (fields: Partial<Descriptor> = {}) =>
  (origin: Origin) =>
    origin.document(
      'manifest',
      { mediaType: MANIFEST_TYPE, digest: MANIFEST_DIGEST, sizeBytes: MANIFEST.length, ...fields },
      signal,
    );
const range = (origin: Origin) => readRange(origin, 100, 1000);

const part =
  (headers: Record<string, string | number>, length: number): Handler =>
  (_, response) => {
    response.writeHead(206, headers);
    response.end(BLOB.subarray(100, 100 + length));
  };
const contentRange = { 'content-range': `bytes 100-1099/${BLOB.length}` };

interface Case {
  readonly handle: Handler;
  readonly ask: (origin: Origin) => Promise<unknown>;
  readonly code: ErrorCode;
  readonly message: RegExp;
  /** How often the registry is asked, with one retry allowed. Default 1. */
  readonly requests?: number;
}

const CASES: Readonly<Record<string, Case>> = {
  'a forbidding registry': {
    handle: (_, response) => sendError(response, 403, 'DENIED', 'requested access to the resource is denied'),
    ask: resolve,
    code: ErrorCode.Forbidden,
    message: /answered 403 \(DENIED: requested access to the resource is denied\)$/,
  },
  'a registry that wants authentication but says not how': {
    handle: (_, response) => sendError(response, 401),
    ask: resolve,
    code: ErrorCode.Unauthorized,
    message: /answered 401/,
  },
  'a registry without the manifest': {
    handle: (_, response) => sendError(response, 404, 'MANIFEST_UNKNOWN', 'manifest unknown'),
    ask: resolve,
    code: ErrorCode.NotFound,
    message:
      /^Cannot read manifest "v1" of "127.0.0.1:\d+\/library\/app": 127.0.0.1:\d+ answered 404 \(MANIFEST_UNKNOWN: manifest unknown\)$/,
  },
  'a registry without the blob': {
    handle: (_, response) => sendError(response, 404),
    ask: range,
    code: ErrorCode.NotFound,
    message: /answered 404/,
  },
  'a failing registry': {
    handle: (_, response) => response.writeHead(500).end('<html>Internal Server Error</html>'),
    ask: resolve,
    code: ErrorCode.RegistryUnavailable,
    message: /answered 500$/,
    requests: 2,
  },
  'a teapot': {
    handle: (_, response) => sendError(response, 418),
    ask: resolve,
    code: ErrorCode.RegistryProtocol,
    message: /answered 418/,
  },
  'a registry that hangs up': {
    handle: (_, response) => response.destroy(),
    ask: resolve,
    code: ErrorCode.RegistryUnavailable,
    message: /cannot be reached or went away/,
    requests: 2,
  },
  'a registry that sends another manifest than its header says': {
    handle: (_, response) => {
      response.setHeader('docker-content-digest', digestOf('another'));
      response.end(MANIFEST);
    },
    ask: resolve,
    code: ErrorCode.DigestMismatch,
    message: /but its header says/,
  },
  'a registry that sends a document with the wrong digest': {
    handle: (_, response) => response.end(Buffer.alloc(MANIFEST.length)),
    ask: document(),
    code: ErrorCode.DigestMismatch,
    message: /found, "sha256:[0-9a-f]{64}" wanted$/,
  },
  'a registry that sends a document of the wrong size': {
    handle: (_, response) => response.end(MANIFEST.subarray(1)),
    ask: document(),
    code: ErrorCode.SizeMismatch,
    message: /bytes found, \d+ wanted$/,
  },
  'a registry that truncates a document': {
    handle: (_, response) => {
      response.writeHead(200, { 'content-length': MANIFEST.length }).write(MANIFEST.subarray(0, 10));
      setImmediate(() => response.destroy());
    },
    ask: document(),
    code: ErrorCode.RegistryUnavailable,
    message: /went away/,
    requests: 2,
  },
  'a descriptor of a manifest over 4 MiB': {
    handle: wellBehaved,
    ask: document({ sizeBytes: MANIFEST_BYTES_MAX + 1 }),
    code: ErrorCode.LimitExceeded,
    message: /at most/,
    requests: 0,
  },
  'a registry that announces a manifest of 100 MB': {
    handle: (_, response) => response.writeHead(200, { 'content-length': 100_000_000 }).flushHeaders(),
    ask: resolve,
    code: ErrorCode.LimitExceeded,
    message: /100000000 bytes found/,
  },
  'a registry that sends a manifest of 100 MB without announcing it': {
    handle: (_, response) => sendMuch(response, 100_000_000),
    ask: resolve,
    code: ErrorCode.LimitExceeded,
    message: /at most 4194304 bytes wanted/,
  },
  'a registry whose error is endless': {
    handle: (_, response) => {
      response.writeHead(403);
      sendMuch(response, 100_000_000);
    },
    ask: resolve,
    code: ErrorCode.Forbidden,
    message: /answered 403$/,
  },
  'a registry that compresses its answers': {
    handle: (_, response) => response.setHeader('content-encoding', 'gzip').end(MANIFEST),
    ask: resolve,
    code: ErrorCode.RegistryProtocol,
    message: /encoded its answer/,
  },
  'a registry that redirects in circles': {
    handle: (_, response) => response.writeHead(302, { location: '/v2/again' }).end(),
    ask: resolve,
    code: ErrorCode.RegistryProtocol,
    message: /redirected more than 10 times/,
    requests: 11,
  },
  'a registry that redirects to nowhere': {
    handle: (_, response) => response.writeHead(302).end(),
    ask: resolve,
    code: ErrorCode.RegistryProtocol,
    message: /redirected to nowhere/,
  },
  'a registry that redirects to a file': {
    handle: (_, response) => response.writeHead(302, { location: 'file:///etc/passwd' }).end(),
    ask: range,
    code: ErrorCode.RegistryProtocol,
    message: /redirected to file:/,
  },
  'a registry with a shorter blob': {
    handle: (_, response) => response.writeHead(416, { 'content-range': 'bytes */50' }).end(),
    ask: range,
    code: ErrorCode.SizeMismatch,
    message: /answered 416/,
  },
  'a registry with a blob of another size': {
    handle: part({ 'content-range': `bytes 100-1099/${BLOB.length + 1}` }, 1000),
    ask: range,
    code: ErrorCode.SizeMismatch,
    message: /has 3000001 bytes, 3000000 wanted/,
  },
  'a registry that sends another range': {
    handle: part({ 'content-range': `bytes 101-1100/${BLOB.length}` }, 1000),
    ask: range,
    code: ErrorCode.RegistryProtocol,
    message: /sent bytes 101 to 1100, 100 to 1099 wanted/,
  },
  'a registry that sends a shorter range': {
    handle: part({ 'content-range': `bytes 100-599/${BLOB.length}` }, 500),
    ask: range,
    code: ErrorCode.RegistryProtocol,
    message: /sent bytes 100 to 599/,
  },
  'a registry that sends a part without saying which': {
    handle: part({}, 1000),
    ask: range,
    code: ErrorCode.RegistryProtocol,
    message: /without saying which/,
  },
  'a registry that announces fewer bytes than the range has': {
    handle: part({ ...contentRange, 'content-length': 10 }, 10),
    ask: range,
    code: ErrorCode.SizeMismatch,
    message: /announced 10 bytes, 1000 wanted/,
  },
  'a registry that ends a range early': {
    handle: part(contentRange, 10),
    ask: range,
    code: ErrorCode.RegistryUnavailable,
    message: /ended its answer 990 bytes early/,
  },
  'a registry that sends more than the range': {
    handle: part(contentRange, 2000),
    ask: range,
    code: ErrorCode.SizeMismatch,
    message: /more bytes came/,
  },
  'a registry that truncates a range': {
    handle: (_, response) => {
      response.writeHead(206, { ...contentRange, 'content-length': 1000 }).write(BLOB.subarray(100, 110));
      setTimeout(() => response.destroy(), 10);
    },
    ask: range,
    code: ErrorCode.RegistryUnavailable,
    message: /went away/,
  },
  'a registry without ranges whose blob has another size': {
    handle: (_, response) => response.end(BLOB.subarray(1)),
    ask: range,
    code: ErrorCode.SizeMismatch,
    message: /announced 2999999 bytes, 3000000 wanted/,
  },
};

for (const [name, { handle, ask, code, message, requests = 1 }] of Object.entries(CASES))
  test(`${name} is ${code}`, async () => {
    await using server = await startServer(handle);
    await using origin = originOf(server);
    await assertFails(ask(origin), code, message);
    assert.is(server.seen.length, requests);
  });

test('a silent registry is RegistryUnavailable after the stall limit', async () => {
  await using server = await startServer(() => {});
  await using origin = originOf(server, { limits: { stallTimeoutMs: 300, retriesMax: 0 } });
  await assertFails(resolve(origin), ErrorCode.RegistryUnavailable, /was silent for too long/);
});

test('a registry that falls silent inside a blob is RegistryUnavailable, a slow one is not', async () => {
  const trickle: Handler = (_, response) => {
    const isSlow = server.seen.length === 1;
    response.writeHead(206, { ...contentRange, 'content-length': 1000 });
    response.write(BLOB.subarray(100, 200));
    if (isSlow) setTimeout(() => response.end(BLOB.subarray(200, 1100)), 200);
  };
  await using server = await startServer(trickle);
  await using origin = originOf(server, { limits: { stallTimeoutMs: 500, retriesMax: 0 } });
  assert.ok((await range(origin)).equals(BLOB.subarray(100, 1100)));
  const error = await assertFails(range(origin), ErrorCode.RegistryUnavailable, /was silent for too long/);
  assert.ok(error.retriable);
});

test('an unreachable registry is RegistryUnavailable', async () => {
  await using origin = originOf({ host: '127.0.0.1:1' });
  const error = await assertFails(resolve(origin), ErrorCode.RegistryUnavailable, /ECONNREFUSED/);
  assert.ok(error.retriable);
});

test('a name that does not resolve is RegistryUnavailable', async () => {
  const reference = parseReference('registry.invalid/app');
  await using origin = originOf({ host: 'registry.invalid' }, { reference });
  await assertFails(resolve(origin), ErrorCode.RegistryUnavailable, /registry\.invalid/);
});

test('a wrong digest in the reference is DigestMismatch', async () => {
  await using server = await startServer((_, response) => sendManifest(response));
  const reference = parseReference(`${server.host}/app@${digestOf('another')}`);
  await using origin = originOf(server, { reference });
  await assertFails(resolve(origin), ErrorCode.DigestMismatch, /wanted$/);
});

test('429 with Retry-After is waited for, as long as patience lasts', async () => {
  let isBusy = true;
  await using server = await startServer((request, response) => {
    if (isBusy) sendError(response.setHeader('retry-after', '1'), 429, 'TOOMANYREQUESTS', 'slow down');
    else wellBehaved(request, response);
    isBusy = false;
  });
  await using origin = originOf(server);
  const startMs = Date.now();
  await resolve(origin);
  assert.ok(Date.now() - startMs >= 950, `${Date.now() - startMs} ms waited`);
  assert.is(server.seen.length, 2);
});

test('429 that asks for more than our patience is RateLimited at once', async () => {
  await using server = await startServer((_, response) =>
    sendError(response.setHeader('retry-after', '3600'), 429),
  );
  await using origin = originOf(server);
  const error = await assertFails(resolve(origin), ErrorCode.RateLimited);
  assert.is(error.retryAfterMs, 3_600_000);
  assert.is(server.seen.length, 1);
});

test('a registry that recovers is read after a retry', async () => {
  await using server = await startServer((request, response) => {
    if (server.seen.length === 1) sendError(response, 503);
    else wellBehaved(request, response);
  });
  await using origin = originOf(server);
  await resolve(origin);
  assert.is(server.seen.length, 2);
});

test('a retry pause ends when the caller gives up', async () => {
  await using server = await startServer((_, response) =>
    sendError(response.setHeader('retry-after', '15'), 429),
  );
  await using origin = originOf(server);
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 50);
  await assertFails(origin.resolve(stop.signal), ErrorCode.Cancelled);
});

test('a schema 1 manifest without a media type of its own is seen as one', async () => {
  await using server = await startServer((_, response) => {
    response.setHeader('content-type', 'application/json').end('{"schemaVersion":1}');
  });
  await using origin = originOf(server);
  const { descriptor } = await origin.resolve(signal);
  assert.match(descriptor.mediaType, 'manifest.v1+json');
});

function sendMuch(response: ServerResponse, total: number): void {
  const block = Buffer.alloc(64 * 1024, ' ');
  let sent = 0;
  const send = (): void => {
    while (sent < total && !response.destroyed) {
      sent += block.length;
      if (!response.write(block)) {
        response.once('drain', send);
        return;
      }
    }
    response.end();
  };
  send();
}

test.run();
