import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode } from '../../../shim/base/errors.ts';
import { parseReference } from '../../../shim/registry/reference.ts';
import {
  assertFails,
  challengeBasic,
  neverAborted,
  originOf,
  readRange,
  sendRange,
  startServer,
  type TlsFiles,
  wellBehaved,
  withHosts,
} from './loopback-registry.ts';

const signal = neverAborted();
const directory = mkdtempSync(join(tmpdir(), 'shoal-tls-'));
const hasOpenssl = spawnSync('openssl', ['version']).status === 0;
const test = suite('tls');
const check = hasOpenssl ? test : test.skip;
if (!hasOpenssl) console.log('SKIP: no openssl in PATH to make certificates with (apt-get install openssl)');

function openssl(...args: readonly string[]): void {
  const made = spawnSync('openssl', args, { cwd: directory, encoding: 'utf8' });
  if (made.status !== 0) throw new Error(`openssl ${args[0]}: ${made.stderr}`);
}

const EC_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];

/** `NAME.pem` and `NAME.key`, self-signed for 127.0.0.1: its own authority. */
function makeCertificate(name: string): TlsFiles {
  const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1'];
  openssl('req', '-x509', ...EC_KEY, ...subject, '-keyout', `${name}.key`, '-out', `${name}.pem`);
  return { key: readFileSync(join(directory, `${name}.key`), 'utf8'), cert: readFileSync(pem(name), 'utf8') };
}

function pem(name: string): string {
  return join(directory, `${name}.pem`);
}

const registry = hasOpenssl ? makeCertificate('registry') : { key: '', cert: '' };
const client = hasOpenssl ? makeCertificate('client') : { key: '', cert: '' };
test.after(() => rmSync(directory, { recursive: true, force: true }));

check('a self-signed registry on loopback is read without configuration, as containerd does', async () => {
  await using server = await startServer(wellBehaved, registry);
  await using origin = originOf(server);
  await origin.resolve(signal);
  assert.is(server.seen.length, 1);
});

check('a self-signed server of hosts.toml is refused without ca or skip_verify', async () => {
  await using server = await startServer(wellBehaved, registry);
  await withHosts(server, `server = "https://${server.host}"`, async (configPath) => {
    await using origin = originOf(server, { configPath });
    const error = await assertFails(
      origin.resolve(signal),
      ErrorCode.RegistryUnavailable,
      /cannot be trusted/,
    );
    assert.not(error.retriable);
  });
  assert.is(server.seen.length, 0);
});

for (const [name, setting] of [
  ['skip_verify', () => 'skip_verify = true'],
  ['ca', () => `ca = "${pem('registry')}"`],
  ['ca as a list', () => `ca = ["${pem('client')}", "${pem('registry')}"]`],
] as const)
  check(`a self-signed registry is read with ${name}`, async () => {
    await using server = await startServer(wellBehaved, registry);
    await withHosts(server, `server = "https://${server.host}"\n${setting()}`, async (configPath) => {
      await using origin = originOf(server, { configPath });
      await origin.resolve(signal);
      await readRange(origin, 0, 1000);
    });
  });

check('skip_verify = false on loopback verifies', async () => {
  await using server = await startServer(wellBehaved, registry);
  await withHosts(server, `[host."https://${server.host}"]\nskip_verify = false`, async (configPath) => {
    await using origin = originOf({ host: server.host }, { configPath });
    // The mirror cannot be trusted; the default host, loopback, needs no trust.
    await origin.resolve(signal);
    assert.is(server.seen.length, 1);
  });
});

check('a registry that wants a client certificate gets that of hosts.toml', async () => {
  await using server = await startServer(wellBehaved, { ...registry, ca: client.cert });
  const pair = `client = [["${pem('client')}", "${join(directory, 'client.key')}"]]`;
  const toml = `server = "https://${server.host}"\nca = "${pem('registry')}"`;
  await withHosts(server, toml, async (configPath) => {
    await using origin = originOf(server, { configPath });
    await assertFails(origin.resolve(signal), ErrorCode.RegistryUnavailable);
  });
  await withHosts(server, `${toml}\n${pair}`, async (configPath) => {
    await using origin = originOf(server, { configPath });
    await origin.resolve(signal);
  });
  assert.is(server.seen.length, 1);
});

check('certificates that cannot be read are ConfigInvalid and name the file', async () => {
  for (const [setting, pattern] of [
    ['ca = "absent.pem"', /absent\.pem": ENOENT/],
    ['client = "hosts.toml"', /Cannot use certificates ".*hosts\.toml"/],
  ] as const)
    await withHosts({ host: '127.0.0.1:1' }, setting, async (configPath) => {
      await using origin = originOf({ host: '127.0.0.1:1' }, { configPath });
      await assertFails(origin.resolve(signal), ErrorCode.ConfigInvalid, pattern);
    });
});

check('a redirect from https to http is refused', async () => {
  await using store = await startServer(sendRange);
  await using server = await startServer((_, response) => {
    response.writeHead(307, { location: `http://${store.host}/blob` }).end();
  }, registry);
  await using origin = originOf(server);
  await assertFails(readRange(origin, 0, 10), ErrorCode.RegistryProtocol, /from https to http/);
  assert.is(store.seen.length, 0);
});

check('a token realm without TLS is refused by a registry with TLS, on loopback too', async () => {
  await using realm = await startServer((_, response) => response.end('{"token":"x"}'));
  await using server = await startServer((_, response) => {
    response.setHeader('www-authenticate', `Bearer realm="http://${realm.host}/token"`);
    response.writeHead(401).end();
  }, registry);
  await using origin = originOf(server, { credentials: { username: 'me', password: 'hunter22' } });
  await assertFails(origin.resolve(signal), ErrorCode.RegistryProtocol, /https:\/\/ wanted/);
  assert.is(realm.seen.length, 0);
});

check('a registry with TLS is reached through the proxy of the environment by a tunnel', async () => {
  await using server = await startServer(wellBehaved, registry);
  await using proxy = await startTunnel(server.port);
  const toml = 'server = "https://registry.example.com"\nskip_verify = true';
  await withHosts({ host: 'registry.example.com' }, toml, async (configPath) => {
    const reference = parseReference('registry.example.com/library/app:v1');
    await using origin = originOf(server, { configPath, reference, proxy: { httpsProxy: proxy.url } });
    await origin.resolve(signal);
  });
  assert.equal(proxy.targets, ['registry.example.com:443']);
  assert.is(server.seen[0]?.headers.host, 'registry.example.com');
});

check('credentials pass through TLS', async () => {
  await using server = await startServer((request, response) => {
    if (request.headers.authorization === undefined) challengeBasic(response);
    else wellBehaved(request, response);
  }, registry);
  await using origin = originOf(server, { credentials: { username: 'me', password: 'hunter22' } });
  await origin.resolve(signal);
});

/** A proxy that tunnels whatever is asked for to one port. */
async function startTunnel(port: number) {
  const targets: string[] = [];
  const server = createServer().on('connect', (request, socket) => {
    targets.push(request.url ?? '');
    const upstream = connect(port, '127.0.0.1', () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
    upstream.on('error', () => socket.destroy()).pipe(socket);
    socket.on('error', () => upstream.destroy()).pipe(upstream);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, targets, [Symbol.asyncDispose]: async () => void server.close() };
}

test.run();
