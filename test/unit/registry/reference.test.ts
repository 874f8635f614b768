import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Digest, digestOf } from '../../../shim/base/digest.ts';
import { ErrorCode, isShoalError } from '../../../shim/base/errors.ts';
import { canonicalNames, formatReference, parseReference } from '../../../shim/registry/reference.ts';

const digest: Digest = digestOf('any');

const NORMAL_FORMS: Readonly<Record<string, string>> = {
  nginx: 'docker.io/library/nginx:latest',
  'nginx:1.27': 'docker.io/library/nginx:1.27',
  'docker.io/nginx': 'docker.io/library/nginx:latest',
  'index.docker.io/nginx': 'docker.io/library/nginx:latest',
  'index.docker.io/me/app:v1': 'docker.io/me/app:v1',
  'me/app': 'docker.io/me/app:latest',
  'me/deep/app': 'docker.io/me/deep/app:latest',
  'localhost/app': 'localhost/app:latest',
  'localhost:5000/app:v1': 'localhost:5000/app:v1',
  'registry/app': 'docker.io/registry/app:latest',
  'registry:5000/app': 'registry:5000/app:latest',
  'registry.example.com/app': 'registry.example.com/app:latest',
  'Registry/app': 'Registry/app:latest',
  '10.0.0.1:5000/a/b_c/d__e/f-g.h:T_1.2-3': '10.0.0.1:5000/a/b_c/d__e/f-g.h:T_1.2-3',
  '[::1]:5000/app:v1': '[::1]:5000/app:v1',
  [`nginx@${digest}`]: `docker.io/library/nginx@${digest}`,
  // Of both the digest counts, as in containerd.
  [`ghcr.io/me/app:v1@${digest}`]: `ghcr.io/me/app@${digest}`,
};

for (const [written, normal] of Object.entries(NORMAL_FORMS))
  test(`parseReference() reads ${written.replace(digest, 'DIGEST')}`, () => {
    assert.is(formatReference(parseReference(written)), normal);
    assert.equal(parseReference(normal), parseReference(written), 'the normal form is its own normal form');
  });

const MALFORMED = [
  '',
  ':tag',
  'UPPER',
  'me/App',
  'registry.example.com/',
  'registry.example.com/a//b',
  '/app',
  'app:',
  'app:-tag',
  `app:${'t'.repeat(129)}`,
  'app@',
  'app@sha256:abc',
  `app@${digest.toUpperCase()}`,
  'app name',
  'app\n',
  '-registry.example.com/app',
  'a..b/../c',
  '../../etc/passwd',
  'registry.example.com/../app',
  'https://registry.example.com/app',
  `registry.example.com/${'a'.repeat(240)}`,
  'a'.repeat(64),
  'x'.repeat(100_000),
];

for (const written of MALFORMED)
  test(`parseReference() refuses ${JSON.stringify(written.slice(0, 40))}`, () => {
    assert.throws(
      () => parseReference(written),
      // Hexadecimal only by chance: 64 letters a are an image ID.
      (error: unknown) => isShoalError(error, ErrorCode.InvalidReference) && error.message.length < 500,
    );
  });

test('parseReference() leaves other digest algorithms to containerd', () => {
  assert.throws(
    () => parseReference(`app@sha512:${'a'.repeat(128)}`),
    (error: unknown) => isShoalError(error, ErrorCode.Unsupported),
  );
});

test('parseReference() does not repeat a login that was pasted into a reference', () => {
  try {
    parseReference('https://me:hunter22@registry.example.com/app');
    assert.unreachable();
  } catch (error) {
    assert.not.match(String(error), 'hunter22');
  }
  assert.throws(
    () => parseReference('me:hunter22@registry.example.com/app'),
    (error: Error) => !error.message.includes('hunter22'),
  );
});

test('canonicalNames() names a tagged image by digest and tag, a digested one by digest only', () => {
  const byDigest = `docker.io/library/nginx@${digest}`;
  assert.equal(canonicalNames(parseReference('nginx:1'), digest), [byDigest, 'docker.io/library/nginx:1']);
  assert.equal(canonicalNames(parseReference(`nginx:1@${digest}`), digest), [byDigest]);
});

test.run();
