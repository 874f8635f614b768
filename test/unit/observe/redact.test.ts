import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { redact } from '../../../shim/observe/redact.ts';

const secret = 'hunter2hunter2';
const secretBase64 = Buffer.from(`user:${secret}`).toString('base64');

const leaks = [
  `Authorization: Bearer ${secret}`,
  `authorization: Basic ${secretBase64}`,
  JSON.stringify({ headers: { authorization: `Bearer ${secret}` } }),
  JSON.stringify({ auth: { username: 'user', password: secret } }),
  JSON.stringify({ body: JSON.stringify({ password: secret }) }),
  JSON.stringify({ identitytoken: secret, registry_token: secret, access_token: secret }),
  `password=${secret}&next=1`,
  `pull of https://user:${secret}@registry.example/v2/`,
  `GET https://storage.example/blob?X-Amz-Signature=${secret}&X-Amz-Date=1 failed`,
  JSON.stringify({
    message: `token request to https://auth.example/token?service=x&password=${secret} failed`,
  }),
];

for (const [index, line] of leaks.entries()) {
  test(`redact() hides the secret of sample ${index}`, () => {
    const shown = redact(line);
    assert.not.match(shown, secret);
    assert.not.match(shown, secretBase64);
    assert.match(shown, '[hidden]');
    if (line.startsWith('{')) assert.type(JSON.parse(shown), 'object');
  });
}

test('redact() leaves ordinary lines as they are', () => {
  const line =
    '{"message":"pulled","image":"registry.example:5000/app:v1","digest":"sha256:abc","auth":"none"}';
  assert.is(redact(line), line);
  assert.is(
    redact('Cannot read blob "https://registry.example/v2/app/blobs/sha256:abc": 401'),
    'Cannot read blob "https://registry.example/v2/app/blobs/sha256:abc": 401',
  );
});

test('redact() takes time in proportion to the line, also for hostile ones', () => {
  const started = performance.now();
  for (const part of [
    'password="',
    'https://',
    'aaaaaaaaaa://',
    'https://a@',
    'http://a?',
    '"authorization',
    '\\\\\\"password',
  ])
    redact(part.repeat(20_000));
  assert.ok(performance.now() - started < 2000);
});

test.run();
