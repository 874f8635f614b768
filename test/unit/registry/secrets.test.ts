import type { ServerResponse } from 'node:http';
import { inspect } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Credentials } from '../../../shim/registry/origin.ts';
import {
  type Handler,
  neverAborted,
  originOf,
  readRange,
  startServer,
  withHosts,
} from './loopback-registry.ts';

/** Everything that must not be seen, planted where a pull meets it. */
const PLANTED = {
  password: 'planted-password-0f7d',
  auth: btoa('me:planted-auth-91aa'),
  identityToken: 'planted-identity-55c2',
  registryToken: 'planted-registry-7be1',
  token: 'planted-token-c0de',
  header: 'planted-header-ab12',
  signature: 'planted-signature-3344',
  login: 'planted-login-5566',
};
const SECRETS = [...Object.values(PLANTED), 'planted-', btoa(`me:${PLANTED.password}`)];

const CREDENTIALS: Readonly<Record<string, Credentials>> = {
  password: { username: 'me', password: PLANTED.password },
  auth: { auth: PLANTED.auth },
  'identity token': { identityToken: PLANTED.identityToken },
  'registry token': { registryToken: PLANTED.registryToken },
};

/** Registries that put all that they were told, and more, into what they answer. */
const TELLTALES: Readonly<Record<string, (server: { readonly host: string }) => Handler>> = {
  'repeats its request in the error': () => (request, response) => echo(request, response, 403),
  'repeats its request in a challenge': (server) => (request, response) => {
    if (request.path.startsWith('/token')) return echo(request, response, 401);
    const realm = `http://${PLANTED.login}@${server.host}/token?x=${PLANTED.signature}`;
    response.setHeader('www-authenticate', `Bearer realm="${realm}", Basic realm="${PLANTED.login}"`);
    return echo(request, response, 401);
  },
  'gives a token and repeats it': (server) => (request, response) => {
    if (request.path.startsWith('/token')) {
      response.end(JSON.stringify({ token: PLANTED.token }));
      return;
    }
    if (request.headers.authorization === undefined)
      response.setHeader('www-authenticate', `Bearer realm="http://${server.host}/token"`);
    echo(request, response, request.headers.authorization === undefined ? 401 : 403);
  },
  'redirects to a signed URL that fails': () => (_, response) => {
    response
      .writeHead(307, { location: `http://${PLANTED.login}:x@127.0.0.1:1/x?sig=${PLANTED.signature}` })
      .end();
  },
  'redirects to a signed URL that cannot be read': () => (_, response) => {
    response.writeHead(307, { location: `http://${PLANTED.login}:x@[bad/x?sig=${PLANTED.signature}` }).end();
  },
  'breaks HTTP': () => (request, response) => {
    response.socket?.end(`HTTP/1.1 ${request.headers.authorization} ${PLANTED.signature}\r\n\r\n`);
  },
};

for (const [name, credentials] of Object.entries(CREDENTIALS))
  for (const [habit, makeHandler] of Object.entries(TELLTALES))
    test(`no error tells a ${name} when the registry ${habit}`, async () => {
      const target = { host: '' };
      await using server = await startServer((request, response) => makeHandler(target)(request, response));
      target.host = server.host;
      const toml = `server = "http://${server.host}"\n[header]\nx-key = "${PLANTED.header}"`;
      await withHosts(server, toml, async (configPath) => {
        await using origin = originOf(server, { configPath, credentials, limits: { retriesMax: 0 } });
        for (const ask of [() => origin.resolve(neverAborted()), () => readRange(origin, 0, 10)]) {
          const error = await ask().then(
            () => assert.unreachable('it must fail'),
            (reason: unknown) => reason,
          );
          assertNoSecrets(inspect(error, { depth: 10, showHidden: true }));
        }
        assertNoSecrets(inspect(origin, { depth: 10 }));
      });
    });

function echo(request: Parameters<Handler>[0], response: ServerResponse, status: number): void {
  const told = `${request.headers.authorization} ${request.headers['x-key']} ${decodeURIComponent(request.body)}`;
  const message = `${told} see https://${PLANTED.login}:x@example.com/help?key=${PLANTED.signature}`;
  response.statusCode = status;
  response.end(JSON.stringify({ errors: [{ code: 'DENIED', message: message.slice(0, 400) }] }));
}

function assertNoSecrets(text: string): void {
  for (const secret of SECRETS) assert.not(text.includes(secret), `${secret} found in: ${text}`);
}

test.run();
