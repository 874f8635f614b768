import { writeFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { stringify } from 'yaml';
import { accessFrom } from '../../../shim/kubernetes/cluster-access.ts';
import { failureOf } from '../../support/pull-site.ts';
import { makeTemporaryRoot } from '../../support/real/temporary-root.ts';

const SECRET = 'planted-token-11c5';

async function read(cluster: object, user: object, files: Readonly<Record<string, string>> = {}) {
  using folder = makeTemporaryRoot('kcf');
  for (const [name, content] of Object.entries(files)) writeFileSync(`${folder.path}/${name}`, content);
  const config = {
    clusters: [{ name: 'other' }, { name: 'cluster', cluster }],
    users: [{ name: 'user', user }],
    contexts: [{ name: 'context', context: { cluster: 'cluster', user: 'user' } }],
    'current-context': 'context',
  };
  writeFileSync(`${folder.path}/config`, stringify(config));
  return await accessFrom(`${folder.path}/config`, {})();
}

test('accessFrom() reads what stands in a kubeconfig', async () => {
  const data = (text: string) => Buffer.from(text).toString('base64');
  const access = await read(
    {
      server: 'https://api.test:6443',
      'certificate-authority-data': data('CA'),
      'tls-server-name': 'kubernetes',
    },
    { token: SECRET, 'client-certificate-data': data('CERT'), 'client-key-data': data('KEY') },
  );
  assert.is(access.server.href, 'https://api.test:6443/');
  assert.equal(
    { ...access, server: '' },
    {
      server: '',
      ca: 'CA',
      skipVerify: false,
      serverName: 'kubernetes',
      client: { cert: 'CERT', key: 'KEY' },
      token: SECRET,
    },
  );
});

test('accessFrom() reads files beside the kubeconfig, as kubelet’s has them', async () => {
  const access = await read(
    { server: 'https://api.test', 'certificate-authority': 'ca.crt' },
    { 'client-certificate': 'both.pem', 'client-key': 'both.pem', tokenFile: 'token' },
    { 'ca.crt': 'CA', 'both.pem': 'BOTH', token: `${SECRET}\n` },
  );
  assert.equal([access.ca, access.client, access.token], ['CA', { cert: 'BOTH', key: 'BOTH' }, SECRET]);
});

test('accessFrom() refuses what it cannot use, without telling what is in it', async () => {
  for (const [cluster, user, message] of [
    [{}, {}, /names no server/],
    [{ server: 'ftp://x' }, {}, /names no server/],
    [{ server: 'https://x' }, { exec: { command: SECRET } }, /come from a program/],
    [{ server: 'https://x' }, { tokenFile: 'absent' }, /ENOENT/],
  ] as const) {
    const failure = await failureOf(read(cluster, { token: SECRET, ...user }));
    assert.is(failure.code, 'CONFIG_INVALID');
    assert.match(failure.message, message);
    assert.not.match(failure.message, SECRET);
  }
  using folder = makeTemporaryRoot('kcf');
  writeFileSync(`${folder.path}/config`, `users: {token: ${SECRET}`);
  assert.not.match((await failureOf(accessFrom(`${folder.path}/config`, {})())).message, SECRET);
});

test('accessFrom() without a kubeconfig wants the service account of a pod', async () => {
  const failure = await failureOf(accessFrom('', {})());
  assert.match(failure.message, /KUBERNETES_SERVICE_HOST is not set/);
});

test.run();
