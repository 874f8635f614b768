import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseChallenges } from '../../../shim/registry/challenge.ts';
import { credentialsForHost, normaliseCredentials, secretsOf } from '../../../shim/registry/credentials.ts';
import { isLoopbackHost } from '../../../shim/registry/loopback.ts';
import type { Credentials } from '../../../shim/registry/origin.ts';
import { Redactor } from '../../../shim/registry/redaction.ts';
import { parseRetryAfter } from '../../../shim/registry/response-error.ts';
import { parseRealm, scopesFor } from '../../../shim/registry/token.ts';

const base64 = (text: string) => Buffer.from(text).toString('base64');

const NORMALISED: readonly (readonly [string, Credentials | undefined, object])[] = [
  ['none', undefined, { kind: 'anonymous' }],
  ['empty fields', { username: '', auth: '', registryToken: '' }, { kind: 'anonymous' }],
  [
    'user and password',
    { username: 'u', password: 'p', identityToken: 't' },
    { kind: 'password', username: 'u', password: 'p' },
  ],
  ['auth', { auth: base64('u:p:q') }, { kind: 'password', username: 'u', password: 'p:q' }],
  ['auth padded with NUL', { auth: base64('u:p\0\0') }, { kind: 'password', username: 'u', password: 'p' }],
  [
    'an identity token before auth',
    { auth: base64('u:p'), identityToken: 't' },
    { kind: 'identity-token', token: 't' },
  ],
  ['a registry token', { registryToken: 't' }, { kind: 'registry-token', token: 't' }],
];

for (const [name, given, wanted] of NORMALISED)
  test(`normaliseCredentials() reads ${name}`, () => {
    assert.equal(normaliseCredentials(given), wanted);
  });

for (const auth of ['!!!', base64('no colon'), 'ü'])
  test(`normaliseCredentials() cannot use auth ${JSON.stringify(auth)}, and does not repeat it`, () => {
    const made = normaliseCredentials({ auth });
    assert.is(made.kind, 'unusable');
    assert.not(JSON.stringify(made).includes(auth));
  });

const SENT: readonly (readonly [serverAddress: string, host: string, sent: boolean])[] = [
  ['', 'registry.example.com', true],
  ['https://registry.example.com', 'registry.example.com', true],
  ['https://registry.example.com/v1/', 'registry.example.com', true],
  ['registry.example.com:5000', 'registry.example.com:5000', true],
  ['https://index.docker.io/v1/', 'registry-1.docker.io', true],
  ['https://registry.example.com', 'registry.example.com:5000', false],
  ['https://registry.example.com', 'evil.example.com', false],
  ['https://registry.example.com', 'example.com', false],
  ['https://registry.example.com', 'registry.example.com.evil.com', false],
  ['https://registry.example.com@evil.example.com', 'registry.example.com', false],
  ['https://index.docker.io/v1/', 'registry.example.com', false],
  ['not a url', 'registry.example.com', false],
];

for (const [serverAddress, host, sent] of SENT)
  test(`credentialsForHost() ${sent ? 'gives' : 'keeps'} those for "${serverAddress}" ${sent ? 'to' : 'from'} ${host}`, () => {
    const { kind } = credentialsForHost({ username: 'u', password: 'p', serverAddress }, host);
    assert.is(kind, sent ? 'password' : 'anonymous');
  });

test('parseChallenges() reads several challenges of one header and of several, Bearer first', () => {
  const headers = [
    'Basic realm="Registry, \\"the\\" one", Bearer realm="https://t.example.com/token",service="a,b" , scope=repository:x:pull',
    'Digest realm="no"',
    'bearer realm="second"',
  ];
  const found = parseChallenges(headers).map(({ scheme, parameters }) => [
    scheme,
    Object.fromEntries(parameters),
  ]);
  assert.equal(found, [
    ['bearer', { realm: 'https://t.example.com/token', service: 'a,b', scope: 'repository:x:pull' }],
    ['bearer', { realm: 'second' }],
    ['basic', { realm: 'Registry, "the" one' }],
  ]);
});

for (const header of [
  '',
  ',,,',
  'Bearer',
  'realm="x"',
  'Bearer realm="unclosed',
  `Bearer ${'a='.repeat(50_000)}`,
  '"""',
])
  test(`parseChallenges() survives ${JSON.stringify(header.slice(0, 30))}`, () => {
    assert.not(parseChallenges([header]).some(({ parameters }) => parameters.get('realm') !== undefined));
  });

test('parseRealm() takes https, and plain HTTP only between loopback hosts', () => {
  assert.is(
    parseRealm('https://u:p@t.example.com/token#x', 'r.example.com', false).href,
    'https://t.example.com/token',
  );
  assert.is(parseRealm('http://127.0.0.1:5001/token', 'localhost:5000', true).port, '5001');
  const refused: readonly (readonly [string | undefined, string, boolean])[] = [
    ['http://t.example.com/token', 'r.example.com', false],
    ['http://t.example.com/token', 'localhost:5000', true],
    ['http://127.0.0.1/token', 'r.example.com', true],
    ['http://127.0.0.1/token', 'localhost:5000', false],
    ['file:///etc/passwd', 'r.example.com', false],
    ['/token', 'r.example.com', false],
    [undefined, 'r.example.com', false],
  ];
  for (const [realm, host, isPlain] of refused)
    assert.throws(() => parseRealm(realm, host, isPlain), /realm/);
});

test('scopesFor() asks for pulling and never for more', () => {
  assert.equal(scopesFor('a/b', undefined), ['repository:a/b:pull']);
  assert.equal(scopesFor('a/b', 'repository:a/b:pull,push'), ['repository:a/b:pull']);
  assert.equal(scopesFor('a/b', 'repository:proxy/a/b:* aws'), [
    'repository:proxy/a/b:pull',
    'aws',
    'repository:a/b:pull',
  ]);
  assert.is(
    scopesFor(
      'a/b',
      'x '.repeat(10).replaceAll('x', () => `s${Math.random()}`),
    ).length,
    8,
  );
});

test('isLoopbackHost() knows loopback by name and address only', () => {
  for (const host of [
    'localhost',
    'localhost:1',
    '127.0.0.1',
    '127.9.9.9:5000',
    '::1',
    '[::1]',
    '[::1]:5000',
  ])
    assert.ok(isLoopbackHost(host), host);
  for (const host of [
    'localhost.example.com',
    '10.0.0.1',
    '127.example.com',
    '[::2]:1',
    '0.0.0.0',
    'registry:5000',
  ])
    assert.not(isLoopbackHost(host), host);
});

test('Redactor takes secrets, URL queries and logins out of what others wrote', () => {
  const redactor = new Redactor();
  redactor.add(...secretsOf({ username: 'me', password: 'p&ss word', auth: base64('x:other-secret') }));
  const text = `p&ss word p%26ss%20word ${base64('me:p&ss word')} other-secret Bearer abcdefghijk https://a:b@h/x?sig=1#f \n\u001b[31m`;
  const cleaned = redactor.clean(text, 500);
  for (const secret of [
    'p&ss',
    'p%26ss',
    base64('me:p&ss word'),
    'other-secret',
    'abcdefghijk',
    'a:b',
    'sig',
    '\u001b',
  ])
    assert.not.match(cleaned, secret);
  assert.match(cleaned, 'https://h/x');
  assert.is(redactor.clean('x'.repeat(1000), 10).length, 10);
});

test('parseRetryAfter() reads seconds and dates, never negative, never beyond a day', () => {
  const nowMs = Date.parse('2026-01-01T00:00:00Z');
  assert.is(parseRetryAfter('3', nowMs), 3000);
  assert.is(parseRetryAfter('Thu, 01 Jan 2026 00:00:05 GMT', nowMs), 5000);
  assert.is(parseRetryAfter('Thu, 01 Jan 2025 00:00:05 GMT', nowMs), 0);
  assert.is(parseRetryAfter('999999999', nowMs), 24 * 3600 * 1000);
  assert.is(parseRetryAfter('soon', nowMs), undefined);
  assert.is(parseRetryAfter(undefined, nowMs), undefined);
});

test.run();
