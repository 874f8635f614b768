import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, isShoalError } from '../../../shim/base/errors.ts';
import { loadHosts } from '../../../shim/registry/hosts.ts';
import {
  defaultHost,
  hostDirectories,
  parseHostsToml,
  type RegistryHost,
} from '../../../shim/registry/hosts-toml.ts';

const urlOf = (host: RegistryHost) => `${host.scheme}://${host.host}${host.path}`;
const parse = (text: string, host = 'registry.example.com') => parseHostsToml(text, '/certs.d/it', host);

test('hostDirectories() looks where containerd looks, first root first', () => {
  assert.equal(hostDirectories('/a::/b', 'registry.example.com:5000'), [
    '/a/registry.example.com_5000_',
    '/a/registry.example.com:5000',
    '/a/_default',
    '/b/registry.example.com_5000_',
    '/b/registry.example.com:5000',
    '/b/_default',
  ]);
  assert.equal(hostDirectories('/a', 'docker.io'), ['/a/docker.io', '/a/_default']);
  assert.equal(hostDirectories('', 'docker.io'), []);
});

test('parseHostsToml() keeps the order of the file and puts the server last', () => {
  const hosts = parse(`
    server = "https://upstream.example.com"
    [host."https://z.example.com"]
    [host."http://a.example.com:5000"]
    [host."https://z.example.com".header]
      x-extra = ["one", "two"]
    [host."m.example.com/prefix"]
  `);
  assert.equal(hosts.map(urlOf), [
    'https://z.example.com/v2',
    'http://a.example.com:5000/v2',
    'https://m.example.com/prefix/v2',
    'https://upstream.example.com/v2',
  ]);
  assert.equal(hosts[0]?.headers, { 'x-extra': 'one, two' });
});

test('parseHostsToml() without server ends with the registry itself, which the root keys configure', () => {
  const hosts = parse('ca = "ca.pem"\ndial_timeout = "1m30s"\n[host."https://m.example.com"]', 'docker.io');
  assert.equal(hosts.map(urlOf), ['https://m.example.com/v2', 'https://registry-1.docker.io/v2']);
  assert.equal(hosts[1]?.tls.caPaths, ['/certs.d/it/ca.pem']);
  assert.is(hosts[1]?.dialTimeoutMs, 90_000);
  assert.equal(hosts[0]?.tls.caPaths, []);
});

test('parseHostsToml() appends /v2 unless it is there or override_path is set', () => {
  const hosts = parse(`
    server = "https://s.example.com/v2/"
    [host."https://a.example.com/x/"]
    [host."https://b.example.com/x"]
      override_path = true
    [host."https://c.example.com"]
      override_path = true
  `);
  assert.equal(
    hosts.map((host) => host.path),
    ['/x/v2', '/x', '', '/v2'],
  );
});

test('parseHostsToml() reads capabilities, all of them when none are named', () => {
  const [resolver, puller, all] = parse(`
    [host."https://a"]
      capabilities = ["Resolve", "push"]
    [host."https://b"]
      capabilities = ["pull"]
    [host."https://c"]
      capabilities = []
  `);
  const flags = (host: RegistryHost | undefined) => [host?.canPull, host?.canResolve];
  assert.equal(
    [flags(resolver), flags(puller), flags(all)],
    [
      [false, true],
      [true, false],
      [true, true],
    ],
  );
});

test('parseHostsToml() reads certificates in each of their forms', () => {
  const clients = (value: string) => parse(`client = ${value}`)[0]?.tls.clientPairs;
  const single = { certPath: '/certs.d/it/both.pem', keyPath: '/certs.d/it/both.pem' };
  assert.equal(clients('"both.pem"'), [single]);
  assert.equal(clients('["both.pem", "/abs.pem"]'), [single, { certPath: '/abs.pem', keyPath: '/abs.pem' }]);
  assert.equal(clients('[["c.pem", "/k.pem"], ["both.pem"]]'.replace(', ["both.pem"]', '')), [
    { certPath: '/certs.d/it/c.pem', keyPath: '/k.pem' },
  ]);
  assert.equal(parse('ca = ["a.pem", "/b.pem"]')[0]?.tls.caPaths, ['/certs.d/it/a.pem', '/b.pem']);
});

const BAD_FILES = [
  'server = ',
  'server = 5',
  'capabilities = ["fly"]',
  'ca = 5',
  'client = [["only-one.pem"]]',
  'client = [["a", "b", "c"]]',
  'skip_verify = "yes"',
  'dial_timeout = "soon"',
  'dial_timeout = "5 s"',
  '[host."https://"]',
  'host = "x"',
  '[header]\nx = 5',
];

for (const text of BAD_FILES)
  test(`parseHostsToml() refuses ${JSON.stringify(text)}`, () => {
    assert.throws(
      () => parse(text),
      (error: unknown) => isShoalError(error, ErrorCode.ConfigInvalid),
    );
  });

test('parseHostsToml() refuses more hosts than are ever tried, and repeats no secret of the file', () => {
  const many = Array.from({ length: 40 }, (_, at) => `[host."https://m${at}.example.com"]`).join('\n');
  assert.throws(() => parse(many), /40 found/);
  assert.throws(
    () => parse('[host."https://me:hunter22@m.example.com?key=hunter22"]\ncapabilities = ["x"]\n[header'),
    (error: Error) => !error.message.includes('hunter22'),
  );
});

const DEFAULTS: Readonly<Record<string, readonly [url: string, httpFallback: boolean]>> = {
  'registry.example.com': ['https://registry.example.com/v2', false],
  'registry.example.com:5000': ['https://registry.example.com:5000/v2', false],
  'docker.io': ['https://registry-1.docker.io/v2', false],
  '10.0.0.1:5000': ['https://10.0.0.1:5000/v2', false],
  localhost: ['https://localhost/v2', false],
  'localhost:443': ['https://localhost:443/v2', false],
  'localhost:80': ['http://localhost:80/v2', false],
  'localhost:5000': ['https://localhost:5000/v2', true],
  '127.1.2.3:5000': ['https://127.1.2.3:5000/v2', true],
  '[::1]:5000': ['https://[::1]:5000/v2', true],
};

for (const [host, [url, httpFallback]] of Object.entries(DEFAULTS))
  test(`defaultHost() of ${host} is ${url}${httpFallback ? ' with plain HTTP to fall back to' : ''}`, () => {
    const made = defaultHost(host);
    assert.is(urlOf(made), url);
    assert.is(made.httpFallback, httpFallback);
    assert.is(made.tls.skipVerify === true, /^(localhost|127|\[::1)/.test(host) && host !== 'localhost:80');
  });

test('parseHostsToml() tries TLS first on a plain host with TLS settings, and not on one without', () => {
  const [plain, ambiguous, port80] = parse(`
    [host."http://a:5000"]
    [host."http://b:5000"]
      skip_verify = false
    [host."http://c:80"]
      skip_verify = true
  `);
  assert.equal([plain?.scheme, plain?.httpFallback], ['http', false]);
  assert.equal([ambiguous?.scheme, ambiguous?.httpFallback], ['https', true]);
  assert.equal([port80?.scheme, port80?.httpFallback], ['http', false]);
});

async function withDirectory(work: (root: string) => Promise<void>): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'shoal-hosts-'));
  try {
    await work(root);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

async function writeHosts(root: string, name: string, text: string): Promise<void> {
  await mkdir(join(root, name), { recursive: true });
  await writeFile(join(root, name, 'hosts.toml'), text);
}

const options = (configPath: string, fields: object = {}) => ({
  host: 'registry.example.com:5000',
  configPath,
  ownAddresses: [],
  ...fields,
});

test('loadHosts() takes the first directory that exists and sees changes at once', () =>
  withDirectory(async (root) => {
    await writeHosts(root, '_default', '[host."https://default.example.com"]');
    const first = async () => (await loadHosts(options(`${root}/absent:${root}`)))[0]?.host;
    assert.is(await first(), 'default.example.com');
    await writeHosts(root, 'registry.example.com:5000', '[host."https://colon.example.com"]');
    assert.is(await first(), 'colon.example.com');
    await writeHosts(root, 'registry.example.com_5000_', '[host."https://escaped.example.com"]');
    assert.is(await first(), 'escaped.example.com');
  }));

test('loadHosts() goes to the registry itself without any directory', async () => {
  assert.equal(await loadHosts(options('')), [defaultHost('registry.example.com:5000')]);
});

test('loadHosts() never asks our own mirror, whatever its name', () =>
  withDirectory(async (root) => {
    const own =
      '[host."http://localhost:65001"]\n[host."http://127.0.0.1:65001"]\n[host."http://127.0.0.1:65002"]';
    await writeHosts(root, '_default', own);
    const load = async () =>
      (await loadHosts(options(root, { ownAddresses: ['127.0.0.1:65001'] }))).map((host) => host.host);
    assert.equal(await load(), ['127.0.0.1:65002', 'registry.example.com:5000']);
    await writeHosts(root, '_default', 'server = "http://127.0.0.1:65001"');
    assert.equal(await load(), ['registry.example.com:5000']);
  }));

test('loadHosts() passes over an unreadable hosts.toml with a warning and uses the certificates beside it', () =>
  withDirectory(async (root) => {
    await writeHosts(root, '_default', 'not toml');
    for (const name of ['ca.crt', 'a.cert', 'a.key', 'b.cert'])
      await writeFile(join(root, '_default', name), '');
    const warnings: string[] = [];
    const [host] = await loadHosts(options(root, { warn: (message: string) => warnings.push(message) }));
    const at = (name: string) => join(root, '_default', name);
    assert.equal(host?.tls.caPaths, [at('ca.crt')]);
    assert.equal(host?.tls.clientPairs, [
      { certPath: at('a.cert'), keyPath: at('a.key') },
      { certPath: at('b.cert'), keyPath: at('b.cert') },
    ]);
    assert.is(warnings.length, 1);
  }));

test.run();
