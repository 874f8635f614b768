import { Code, TtrpcError } from 'ttrpc';
import {
  bytesField,
  FIELDS_MAX,
  type Field,
  mapField,
  readFields,
  readMapEntry,
  stringField,
  varintField,
} from 'ttrpc/protobuf';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

function fieldsOf(message: Buffer): Field[] {
  const fields: Field[] = [];
  readFields(message, (field) => fields.push(field));
  return fields;
}

test('fields are written as the encoding guide has them', () => {
  assert.is(varintField(1, 150).toString('hex'), '089601');
  assert.is(stringField(2, 'testing').toString('hex'), '120774657374696e67');
  assert.is(bytesField(3, Buffer.from('08', 'hex')).toString('hex'), '1a0108');
  assert.is(varintField(4, 2 ** 53 - 1).toString('hex'), '20ffffffffffffff0f');
});

test('defaults are left out, empty bytes are kept', () => {
  assert.is(varintField(1, 0).length + stringField(1, '').length + mapField(1, []).length, 0);
  assert.is(bytesField(1, Buffer.alloc(0)).toString('hex'), '0a00');
});

test('readFields() gives back what was written and skips fixed-width fields', () => {
  const fixed = Buffer.from('09000000000000000015000000ff', 'hex');
  const [text, number, ...none] = fieldsOf(
    Buffer.concat([stringField(1000, 'ü'), fixed, varintField(2, 2_000_000_000)]),
  );
  assert.is(text?.bytes.toString(), 'ü');
  assert.is(text?.number, 1000);
  assert.is(number?.value, 2_000_000_000);
  assert.is(none.length, 0);
});

test('a map comes back entry by entry, also one with an empty value', () => {
  const entries = [
    ['a', '1'],
    ['b', ''],
  ] as const;
  assert.equal(
    fieldsOf(mapField(5, entries)).map(({ bytes }) => readMapEntry(bytes)),
    entries,
  );
});

for (const [what, hex] of [
  ['a varint without an end', '08ffffffffffffffffffff'],
  ['a length beyond the message', '0a05aa'],
  ['a fixed field beyond the message', '09000000'],
  ['a group', '0b0c'],
  ['field number 0', '0000'],
] as const) {
  test(`readFields() refuses ${what}`, () => {
    assert.throws(
      () => fieldsOf(Buffer.from(hex, 'hex')),
      (error: unknown) => error instanceof TtrpcError && error.code === Code.InvalidArgument,
    );
  });
}

test('readFields() refuses a message of more fields than any has', () => {
  assert.is(fieldsOf(Buffer.alloc(2 * FIELDS_MAX, Buffer.from('0801', 'hex'))).length, FIELDS_MAX);
  assert.throws(() => fieldsOf(Buffer.alloc(2 * FIELDS_MAX + 2, Buffer.from('0801', 'hex'))), /fields/);
});

test.run();
