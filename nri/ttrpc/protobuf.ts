import { Code, TtrpcError } from './code.ts';

/**
 * The little of the protobuf wire format that small messages need: varints and length-delimited fields. Fields of
 * other wire types are skipped. Source: protobuf encoding guide, "Message Structure".
 */

/** A message with more is refused: a field costs a byte to send and much more to handle. */
export const FIELDS_MAX = 100_000;

const VARINT = 0;
const FIXED64 = 1;
const DELIMITED = 2;
const FIXED32 = 5;
const VARINT_BYTES_MAX = 10;
const nothing = Buffer.alloc(0);

export interface Field {
  readonly number: number;
  /** The value of a varint, else 0. Exact up to 2^53; negative numbers come out as 2^64 minus themselves. */
  readonly value: number;
  /** The content of a length-delimited field (string, bytes, message, map entry), else empty. Not a copy. */
  readonly bytes: Buffer;
}

/** Calls `visit` with each varint and length-delimited field, in their order. @throws TtrpcError `InvalidArgument` */
export function readFields(message: Buffer, visit: (field: Field) => void): void {
  let offset = 0;
  for (let count = 0; offset < message.length; count += 1) {
    if (count === FIELDS_MAX) throw malformed(`more than ${FIELDS_MAX} fields`);
    const tag = readVarint(message, offset);
    const number = Math.floor(tag.value / 8);
    if (number === 0) throw malformed(`field number 0 at byte ${offset}`);
    const { end, field } = readValue(message, tag.end, number, tag.value % 8);
    if (end > message.length) throw malformed(`a field that ends at byte ${end} of ${message.length}`);
    if (field !== undefined) visit(field);
    offset = end;
  }
}

/** An entry of a `map<string, string>` field. */
export function readMapEntry(entry: Buffer): readonly [key: string, value: string] {
  let key = '';
  let value = '';
  readFields(entry, ({ number, bytes }) => {
    if (number === 1) key = bytes.toString();
    if (number === 2) value = bytes.toString();
  });
  return [key, value];
}

/** A length-delimited field, also when it is empty: so that repeated fields keep their number of entries. */
export function bytesField(number: number, value: Uint8Array): Buffer {
  return Buffer.concat([varint(number * 8 + DELIMITED), varint(value.length), value]);
}

/** A string; nothing for the empty one, which is the default. */
export function stringField(number: number, value: string): Buffer {
  return value === '' ? nothing : bytesField(number, Buffer.from(value));
}

/** An unsigned integer up to 2^53, a bool or an enum; nothing for 0, which is the default. */
export function varintField(number: number, value: number): Buffer {
  return value === 0 ? nothing : Buffer.concat([varint(number * 8 + VARINT), varint(value)]);
}

/** A `map<string, string>`, or any repeated message of a key (1) and a value (2). */
export function mapField(number: number, entries: Iterable<readonly [string, string]>): Buffer {
  const fields = [...entries].map(([key, value]) =>
    bytesField(number, Buffer.concat([stringField(1, key), stringField(2, value)])),
  );
  return Buffer.concat(fields);
}

function readValue(
  message: Buffer,
  offset: number,
  number: number,
  wireType: number,
): { readonly end: number; readonly field?: Field } {
  if (wireType === FIXED64) return { end: offset + 8 };
  if (wireType === FIXED32) return { end: offset + 4 };
  if (wireType !== VARINT && wireType !== DELIMITED)
    throw malformed(`wire type ${wireType} before byte ${offset}`);
  const { value, end } = readVarint(message, offset);
  if (wireType === VARINT) return { end, field: { number, value, bytes: nothing } };
  return { end: end + value, field: { number, value: 0, bytes: message.subarray(end, end + value) } };
}

function readVarint(message: Buffer, offset: number): { readonly value: number; readonly end: number } {
  let value = 0;
  for (let index = 0; index < VARINT_BYTES_MAX; index += 1) {
    const byte = message[offset + index];
    if (byte === undefined) break;
    value += (byte & 0x7f) * 2 ** (7 * index);
    if (byte < 0x80) return { value, end: offset + index + 1 };
  }
  throw malformed(`an unfinished varint at byte ${offset}`);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  return Buffer.from([...bytes, rest]);
}

function malformed(found: string): TtrpcError {
  return new TtrpcError(Code.InvalidArgument, `Cannot read a protobuf message: found ${found}`);
}
