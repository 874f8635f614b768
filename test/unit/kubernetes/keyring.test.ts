import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { findInKeyring, readPullSecret } from '../../../shim/kubernetes/keyring.ts';

const base64 = (text: string) => Buffer.from(text).toString('base64');
const secretOf = (auths: object) => ({
  type: 'kubernetes.io/dockerconfigjson',
  data: { '.dockerconfigjson': base64(JSON.stringify({ auths })) },
});
const user = (username: string) => ({ username, password: 'secret' });

/** Who would pull `repository` from `host` with these keys. */
function usernameFor(keys: readonly string[], host: string, repository = 'team/app'): string | undefined {
  const auths = Object.fromEntries(keys.map((key) => [key, user(key)]));
  return findInKeyring(readPullSecret(secretOf(auths)), [host], repository)?.username;
}

test('readPullSecret() reads both types of secrets and both ways to write a password', () => {
  const auth = base64('user:secret');
  const found = [{ key: 'a.test', credentials: { auth } }];
  assert.equal(readPullSecret(secretOf({ 'a.test': { auth, username: 'other' } })), found);
  const old = {
    type: 'kubernetes.io/dockercfg',
    data: { '.dockercfg': base64(JSON.stringify({ 'a.test': { auth } })) },
  };
  assert.equal(readPullSecret(old), found);
  const [entry] = readPullSecret(secretOf({ 'a.test': { username: 'user' } }));
  assert.equal(entry?.credentials, { username: 'user', password: '' });
});

test('readPullSecret() finds nothing in what is malformed', () => {
  const dockercfg = (text: string) => ({
    type: 'kubernetes.io/dockerconfigjson',
    data: { '.dockerconfigjson': text },
  });
  const malformed = [
    undefined,
    {},
    { data: 1 },
    dockercfg(''),
    dockercfg('%%%'),
    dockercfg(base64('[')),
    dockercfg(base64('{"auths":7}')),
  ];
  for (const secret of malformed) assert.equal(readPullSecret(secret), []);
  assert.equal(readPullSecret(secretOf({ 'a.test': {}, 'b.test': 'x', ' ': user('c') })), []);
});

test('findInKeyring() matches hosts as kubelet does', () => {
  for (const [key, host, matches] of [
    ['a.test', 'a.test', true],
    ['https://a.test', 'a.test', true],
    ['http://a.test/v1/', 'a.test', true],
    ['https://a.test/v2/', 'a.test', true],
    ['a.test:5000', 'a.test:5000', true],
    ['a.test', 'a.test:5000', false],
    ['a.test:5000', 'a.test', false],
    ['*.test', 'a.test', true],
    ['*.test', 'b.a.test', false],
    ['*.*.test', 'b.a.test', true],
    ['r*y.test', 'registry.test', true],
    ['test', 'a.test', false],
    ['a.test.evil', 'a.test', false],
    ['docker.io', 'docker.io', true],
    ['https://index.docker.io/v1/', 'docker.io', true],
    ['index.docker.io', 'ghcr.io', false],
    ['[::1]:5000', '[::1]:5000', true],
  ] as const)
    assert.is(usernameFor([key], host), matches ? key : undefined, `${key} for ${host}`);
});

test('findInKeyring() takes the path as a prefix, and the longer one first', () => {
  assert.is(usernameFor(['a.test', 'a.test/team', 'a.test/team/app'], 'a.test'), 'a.test/team/app');
  assert.is(usernameFor(['a.test', 'a.test/team'], 'a.test', 'team/other'), 'a.test/team');
  assert.is(usernameFor(['a.test', 'a.test/team'], 'a.test', 'others/app'), 'a.test');
  assert.is(usernameFor(['a.test/other'], 'a.test'), undefined);
});

test('findInKeyring() takes a secret for the P2P address as one for the registry, and the first of equals', () => {
  const p2p = 'a.distributed.b.test:65001';
  const entries = readPullSecret(secretOf({ [`https://${p2p}`]: user('copy') }));
  assert.is(findInKeyring(entries, ['a.b.test', p2p], 'app')?.username, 'copy');
  assert.is(findInKeyring(entries, ['a.b.test'], 'app'), undefined);
  const twice = ['first', 'second'].flatMap((name) => readPullSecret(secretOf({ 'a.test': user(name) })));
  assert.is(findInKeyring(twice, ['a.test'], 'app')?.username, 'first');
});

test.run();
