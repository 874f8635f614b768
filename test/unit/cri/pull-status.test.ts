import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, ShoalError } from '../../../shim/base/errors.ts';
import { pullStatus } from '../../../shim/cri/pull-status.ts';

const IMAGE = 'registry.test/app:1';
const missing = new ShoalError(ErrorCode.NotFound, 'Cannot read manifest: 404');

test('a missing image is told in the words of the containerd that runs', () => {
  const pulling = `failed to pull and unpack image "${IMAGE}": failed to resolve`;
  for (const version of ['1.7.24', 'v1.7.24', '1.6.0~ds1'])
    assert.is(
      pullStatus(missing, IMAGE, version).message,
      `${pulling} reference "${IMAGE}": ${IMAGE}: not found`,
    );
  for (const version of ['2.1.9', 'v2.4.2', '21.7.0', ''])
    assert.is(pullStatus(missing, IMAGE, version).message, `${pulling} image: ${IMAGE}: not found`);
});

test('missing content is told alike by all', () => {
  const content = new ShoalError(ErrorCode.NotFound, 'Cannot read blob: 404', {
    facts: { content: 'sha256:1 (layer)' },
  });
  const messages = ['1.7.24', '2.1.9'].map((version) => pullStatus(content, IMAGE, version).message);
  assert.is(messages[0], messages[1]);
  assert.match(
    messages[0] ?? '',
    /could not fetch content descriptor sha256:1 \(layer\) from remote: not found$/,
  );
});

test.run();
