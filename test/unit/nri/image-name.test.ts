import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { canonicalImageName } from '../../../nri/image-name.ts';

const digest = `sha256:${'a'.repeat(64)}`;

for (const [name, wanted] of [
  ['nginx', 'docker.io/library/nginx:latest'],
  ['nginx:1', 'docker.io/library/nginx:1'],
  ['docker.io/nginx', 'docker.io/library/nginx:latest'],
  ['index.docker.io/library/nginx', 'docker.io/library/nginx:latest'],
  ['team/app:1', 'docker.io/team/app:1'],
  ['registry.test/app', 'registry.test/app:latest'],
  ['registry.test:5000/team/app:1', 'registry.test:5000/team/app:1'],
  ['localhost/app', 'localhost/app:latest'],
  [`registry.test/app:1@${digest}`, `registry.test/app@${digest}`],
  [`registry.test/app@${digest}`, `registry.test/app@${digest}`],
] as const) {
  test(`canonicalImageName() spells ${name.slice(0, 40)} out`, () => {
    assert.is(canonicalImageName(name), wanted);
    assert.is(canonicalImageName(wanted), wanted);
  });
}

test.run();
