import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatAllowed, formatDecision, guessUid, readReview } from '../../../webhook/admission-review.ts';

const UID = '705ab4f5-6393-11e8-b7cc-42010a800002';

function makeReview(change: object = {}): object {
  return {
    kind: 'AdmissionReview',
    apiVersion: 'admission.k8s.io/v1',
    request: {
      uid: UID,
      kind: { group: '', version: 'v1', kind: 'Pod' },
      operation: 'CREATE',
      object: { metadata: {}, spec: {} },
      ...change,
    },
  };
}

const read = (value: unknown) => readReview(Buffer.from(JSON.stringify(value)));

test('readReview() finds the pod that is to be created', () => {
  const request = read(makeReview());
  assert.is(request.kind, 'pod');
  assert.is(request.uid, UID);
});

test('readReview() lets everything else through, with its uid', () => {
  const others: [object, string][] = [
    [{ operation: 'UPDATE' }, 'not-a-pod-creation'],
    [{ operation: 'CREATE', subResource: 'binding' }, 'not-a-pod-creation'],
    [{ kind: { group: 'apps', version: 'v1', kind: 'Deployment' } }, 'not-a-pod-creation'],
    [{ kind: undefined }, 'not-a-pod-creation'],
    [{ object: null }, 'malformed-pod'],
    [{ object: [] }, 'malformed-pod'],
  ];
  for (const [change, why] of others)
    assert.equal(read(makeReview(change)), { kind: 'other', uid: UID, why });
});

test('readReview() survives anything', () => {
  for (const text of ['', '{', 'null', '[]', '7', '"x"', '{"kind":"AdmissionReview"}', '\u0000\uffff'])
    assert.is(readReview(Buffer.from(text)).kind, 'other', text);
  assert.is(readReview(Buffer.from([0xff, 0xfe, 0x00])).kind, 'other');
  assert.is(readReview(Buffer.from('['.repeat(1_000_000))).kind, 'other');
  assert.equal(read({ kind: 'AdmissionReview', request: { uid: 'x'.repeat(1_000) } }), {
    kind: 'other',
    uid: '',
    why: 'not-a-review',
  });
});

test('guessUid() finds the uid in the beginning of a request, and nowhere else', () => {
  const text = JSON.stringify(makeReview());
  assert.is(guessUid(Buffer.from(text.slice(0, 200))), UID);
  assert.is(guessUid(Buffer.from(text.slice(0, 60))), '');
  assert.is(guessUid(Buffer.from(`${' '.repeat(5_000)}${text}`)), '');
  assert.is(guessUid(Buffer.from('"request":{"uid":"a\\"b"}')), '');
});

test('formatAllowed() and formatDecision() always allow', () => {
  const allowed = JSON.parse(formatAllowed(UID));
  assert.equal(allowed.response, { uid: UID, allowed: true });
  const patch = [{ op: 'add', path: '/a', value: { b: 1 } }] as const;
  const decided = JSON.parse(formatDecision(UID, { reason: 'opted-in', patch, warnings: ['täglich\nmehr'] }));
  const { patch: encoded, ...rest } = decided.response;
  assert.equal(rest, { uid: UID, allowed: true, patchType: 'JSONPatch', warnings: ['shoal: t?glich?mehr'] });
  assert.equal(JSON.parse(Buffer.from(encoded, 'base64').toString()), patch);
});

test.run();
