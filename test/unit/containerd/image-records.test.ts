import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { digestOf } from '../../../shim/base/digest.ts';
import { recordNames } from '../../../shim/containerd/image-records.ts';

test('recordNames() has tags last: they may have meant another image', () => {
  const bytes = Buffer.from('{}');
  const descriptor = { mediaType: 'application/json', digest: digestOf(bytes), sizeBytes: bytes.length };
  const names = ['registry.test/app:1', `registry.test/app@${descriptor.digest}`];
  const [first, last] = recordNames({ names, config: { descriptor, bytes } });
  assert.equal(first, [descriptor.digest, names[1]]);
  assert.equal(last, [names[0]]);
});

test.run();
