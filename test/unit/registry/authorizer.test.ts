import type { ServerResponse } from 'node:http';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode } from '../../../shim/base/errors.ts';
import type { Credentials } from '../../../shim/registry/origin.ts';
import {
  assertFails,
  challengeBasic,
  type Handler,
  type LoopbackServer,
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
const ME: Credentials = { username: 'me', password: 'hunter22' };
const BASIC = `Basic ${btoa('me:hunter22')}`;

interface TokenRegistry extends LoopbackServer {
  /** Tokens given out so far. */
  readonly tokens: string[];
  /** Only the newest token is taken from now on, and only until the next one. */
  expire(): void;
}

/** A registry whose token server, on the same port under /token, behaves as `giveToken` says. */
async function startTokenRegistry(giveToken?: Handler): Promise<TokenRegistry> {
  const tokens: string[] = [];
  const expired = new Set<string>();
  const server = await startServer((request, response) => {
    if (request.path.startsWith('/token')) {
      if (giveToken !== undefined) giveToken(request, response);
      if (response.writableEnded) return;
      tokens.push(`token-${tokens.length}-planted`);
      return sendJson(response, { token: tokens.at(-1), expires_in: 300 });
    }
    const token = request.headers.authorization?.replace(/^Bearer /, '') ?? '';
    if (tokens.includes(token) && !expired.has(token)) return wellBehaved(request, response);
    const challenge = `Bearer realm="http://${server.host}/token",service="the registry",scope="repository:library/app:pull"`;
    response.setHeader('www-authenticate', challenge);
    return sendError(response, 401, 'UNAUTHORIZED', 'authentication required');
  });
  const expire = () => {
    for (const token of tokens) expired.add(token);
  };
  return Object.assign(server, { tokens, expire });
}

function sendJson(response: ServerResponse, body: object, status = 200): void {
  response.statusCode = status;
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(body));
}

const tokenRequests = (server: LoopbackServer) =>
  server.seen.filter((request) => request.path.startsWith('/token'));

test('Basic credentials are sent after the registry asked, and with every request then', async () => {
  await using server = await startServer((request, response) => {
    if (request.headers.authorization === BASIC) wellBehaved(request, response);
    else challengeBasic(response);
  });
  await using origin = originOf(server, { credentials: ME });
  assert.ok(origin.hasCredentials);
  assert.not(origin.isAnonymous);
  await origin.resolve(signal);
  await readRange(origin, 0, 10);
  assert.equal(
    server.seen.map((request) => request.headers.authorization),
    [undefined, BASIC, BASIC],
  );
});

test('"auth" is Basic as well', async () => {
  await using server = await startServer((request, response) => {
    if (request.headers.authorization === BASIC) wellBehaved(request, response);
    else challengeBasic(response);
  });
  await using origin = originOf(server, { credentials: { auth: btoa('me:hunter22') } });
  await origin.resolve(signal);
});

test('refused Basic credentials are Unauthorized and are not sent again', async () => {
  await using server = await startServer((_, response) => challengeBasic(response));
  await using origin = originOf(server, { credentials: ME });
  await assertFails(
    origin.resolve(signal),
    ErrorCode.Unauthorized,
    /answered 401 \(UNAUTHORIZED: authentication required\)/,
  );
  assert.is(server.seen.length, 2);
});

test('a registry that wants Basic refuses who has none', async () => {
  for (const credentials of [{}, { identityToken: 'planted-identity' }]) {
    await using server = await startServer((_, response) => challengeBasic(response));
    await using origin = originOf(server, { credentials });
    await assertFails(origin.resolve(signal), ErrorCode.Unauthorized);
    assert.is(server.seen.length, 1);
  }
});

test('credentials that cannot be read are an error only when a registry asks', async () => {
  const credentials = { auth: 'not base64!' };
  await using open = await startServer(wellBehaved);
  await using openOrigin = originOf(open, { credentials });
  await openOrigin.resolve(signal);
  await using closed = await startServer((_, response) => challengeBasic(response));
  await using closedOrigin = originOf(closed, { credentials });
  await assertFails(closedOrigin.resolve(signal), ErrorCode.Unauthorized, /not base64 of/);
});

test('an anonymous token is fetched by GET with service and scope, once for many readers', async () => {
  await using server = await startTokenRegistry();
  await using origin = originOf(server);
  await Promise.all(Array.from({ length: 8 }, (_, at) => readRange(origin, at * 10, 10)));
  const [request, ...others] = tokenRequests(server);
  assert.equal(others, []);
  const query = new URL(request?.path ?? '', 'http://x').searchParams;
  assert.equal(
    [...query],
    [
      ['service', 'the registry'],
      ['scope', 'repository:library/app:pull'],
    ],
  );
  assert.is(request?.headers.authorization, undefined);
  assert.not(origin.hasCredentials);
});

test('user and password get a token by an OAuth2 POST', async () => {
  await using server = await startTokenRegistry();
  await using origin = originOf(server, { credentials: ME });
  await origin.resolve(signal);
  const [request] = tokenRequests(server);
  assert.is(request?.method, 'POST');
  assert.equal(Object.fromEntries(new URLSearchParams(request?.body)), {
    client_id: 'shoal',
    grant_type: 'password',
    username: 'me',
    password: 'hunter22',
    service: 'the registry',
    scope: 'repository:library/app:pull',
  });
});

test('an identity token is used as a refresh token', async () => {
  await using server = await startTokenRegistry((_, response) => {
    if (!server.tokens.includes('access-planted')) server.tokens.push('access-planted');
    sendJson(response, { access_token: 'access-planted' });
  });
  await using origin = originOf(server, { credentials: { identityToken: 'planted-identity' } });
  await origin.resolve(signal);
  const form = new URLSearchParams(tokenRequests(server)[0]?.body);
  assert.equal([form.get('grant_type'), form.get('refresh_token')], ['refresh_token', 'planted-identity']);
});

for (const status of [400, 401, 404, 405])
  test(`a token server that answers ${status} to POST is asked by GET with Basic`, async () => {
    await using server = await startTokenRegistry((request, response) => {
      if (request.method === 'POST') sendError(response, status);
    });
    await using origin = originOf(server, { credentials: ME });
    await origin.resolve(signal);
    assert.equal(
      tokenRequests(server).map((request) => [request.method, request.headers.authorization]),
      [
        ['POST', undefined],
        ['GET', BASIC],
      ],
    );
  });

test('a registry token is sent as it is', async () => {
  await using server = await startTokenRegistry();
  server.tokens.push('planted-registry-token');
  await using origin = originOf(server, { credentials: { registryToken: 'planted-registry-token' } });
  await origin.resolve(signal);
  assert.equal(tokenRequests(server), []);
  server.expire();
  await assertFails(origin.resolve(signal), ErrorCode.Unauthorized);
});

test('a token that expires in the middle of a pull is replaced, once for all readers', async () => {
  await using server = await startTokenRegistry();
  await using origin = originOf(server, { credentials: ME });
  await origin.resolve(signal);
  server.expire();
  await Promise.all(Array.from({ length: 4 }, (_, at) => readRange(origin, at * 10, 10)));
  assert.is(tokenRequests(server).length, 2);
});

test('a token that says it expires is replaced without a 401', async () => {
  await using server = await startTokenRegistry((_, response) => {
    server.tokens.push(`short-${server.tokens.length}`);
    sendJson(response, { token: server.tokens.at(-1), expires_in: 0.02 });
  });
  await using origin = originOf(server);
  await origin.resolve(signal);
  await new Promise((resolve) => setTimeout(resolve, 25));
  await origin.resolve(signal);
  assert.is(tokenRequests(server).length, 2);
  assert.is(server.seen.filter((request) => request.headers.authorization === undefined).length, 1 + 2);
});

test('a fresh token that is refused is final', async () => {
  await using server = await startTokenRegistry((_, response) => sendJson(response, { token: 'worthless' }));
  await using origin = originOf(server, { credentials: ME });
  await assertFails(origin.resolve(signal), ErrorCode.Unauthorized);
  assert.is(tokenRequests(server).length, 1);
});

const BAD_TOKEN_SERVERS: Readonly<Record<string, readonly [Handler, ErrorCode]>> = {
  'refuses with 401': [
    (_, response) => sendError(response, 401, 'UNAUTHORIZED', 'wrong password'),
    ErrorCode.Unauthorized,
  ],
  'refuses with 403': [(_, response) => sendError(response, 403), ErrorCode.Forbidden],
  'refuses with 400': [
    (_, response) => sendJson(response, { error: 'invalid_grant' }, 400),
    ErrorCode.Unauthorized,
  ],
  'is broken': [(_, response) => sendError(response, 500), ErrorCode.RegistryUnavailable],
  'hangs up': [(_, response) => response.destroy(), ErrorCode.RegistryUnavailable],
  'gives no token': [(_, response) => sendJson(response, { token: '' }), ErrorCode.RegistryProtocol],
  'gives no JSON': [(_, response) => response.end('<html>'), ErrorCode.RegistryProtocol],
  'gives a token with a line break': [
    (_, response) => sendJson(response, { token: 'a\r\nx: y' }),
    ErrorCode.RegistryProtocol,
  ],
  'gives a huge token': [
    (_, response) => sendJson(response, { token: 'x'.repeat(100_000) }),
    ErrorCode.RegistryProtocol,
  ],
  'gives a huge answer': [
    (_, response) => response.end(Buffer.alloc(2 * 1024 * 1024)),
    ErrorCode.LimitExceeded,
  ],
  redirects: [
    (_, response) => response.writeHead(307, { location: '/token2' }).end(),
    ErrorCode.RegistryProtocol,
  ],
};

for (const [name, [handle, code]] of Object.entries(BAD_TOKEN_SERVERS))
  test(`a token server that ${name} is ${code}`, async () => {
    await using server = await startTokenRegistry(handle);
    await using origin = originOf(server, { credentials: ME });
    const error = await assertFails(origin.resolve(signal), code);
    assert.not.match(String(error.stack), 'hunter22');
  });

test('a token realm without TLS on another host gets nothing', async () => {
  await using server = await startServer((_, response) => {
    response.setHeader('www-authenticate', 'Bearer realm="http://token.example.com/token"');
    sendError(response, 401);
  });
  await using origin = originOf(server, { credentials: ME });
  await assertFails(origin.resolve(signal), ErrorCode.RegistryProtocol, /https:\/\/ wanted/);
});

test('credentials whose server address names another host are not sent', async () => {
  await using server = await startTokenRegistry();
  const credentials = { ...ME, serverAddress: 'https://elsewhere.example.com' };
  await using origin = originOf(server, { credentials });
  await origin.resolve(signal);
  assert.not(origin.hasCredentials);
  assert.not.match(JSON.stringify(server.seen), 'hunter22');
});

test('a mirror that asks does not get credentials that name the registry', async () => {
  await using mirror = await startServer((_, response) => challengeBasic(response));
  await using server = await startServer((request, response) => {
    if (request.headers.authorization === BASIC) wellBehaved(request, response);
    else challengeBasic(response);
  });
  await withHosts(server, `[host."http://${mirror.host}"]`, async (configPath) => {
    await using origin = originOf(server, { configPath, credentials: { ...ME, serverAddress: server.host } });
    await origin.resolve(signal);
  });
  assert.equal(
    mirror.seen.map((request) => request.headers.authorization),
    [undefined],
  );
});

test('the host of a redirect that asks is answered without the credentials of the caller', async () => {
  await using store = await startServer((request, response) => {
    if (request.path.startsWith('/token')) return sendJson(response, { token: 'anonymous-token' });
    if (request.headers.authorization === 'Bearer anonymous-token') return sendRange(request, response);
    response.setHeader('www-authenticate', `Bearer realm="http://${store.host}/token", Basic realm="x"`);
    return sendError(response, 401);
  });
  await using server = await startServer((request, response) => {
    if (request.headers.authorization !== BASIC) return challengeBasic(response);
    response.writeHead(307, { location: `http://${store.host}/blob` }).end();
  });
  await using origin = originOf(server, { credentials: ME });
  await readRange(origin, 0, 10);
  assert.not.match(JSON.stringify(store.seen), 'hunter22');
  assert.not.match(JSON.stringify(store.seen), btoa('me:hunter22'));
});

test.run();
