import { createHash } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { chainIdsOf, digestOf, isDigest, parseDigest } from '../../../shim/base/digest.ts';
import { ErrorCode, type ShoalError } from '../../../shim/base/errors.ts';

const [a, b, c] = ['a', 'b', 'c'].map((text) => digestOf(text)) as [
  ReturnType<typeof digestOf>,
  ReturnType<typeof digestOf>,
  ReturnType<typeof digestOf>,
];

function codeOf(text: string): string {
  try {
    parseDigest(text);
    return 'fine';
  } catch (error) {
    return (error as ShoalError).code;
  }
}

test('chainIdsOf() hashes the chain below, a blank, and the diff ID', () => {
  const hash = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`;
  const second = hash(`${a} ${b}`);
  assert.equal(chainIdsOf([a, b, c]), [a, second, hash(`${second} ${c}`)]);
  assert.equal(chainIdsOf([]), []);
});

test('parseDigest() takes sha256 alone and tells other algorithms from nonsense', () => {
  assert.ok(isDigest(a));
  assert.is(codeOf(a), 'fine');
  assert.is(codeOf(`sha512:${'a'.repeat(128)}`), ErrorCode.Unsupported);
  for (const text of ['', 'sha256:', a.toUpperCase(), `${a}0`, a.slice(0, -1), `../${a}`])
    assert.is(codeOf(text), ErrorCode.ManifestInvalid, text);
});

test.run();
