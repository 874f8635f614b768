import { ErrorCode, ShoalError } from '../base/errors.ts';

/** Fields of one message before it is refused: a pull request holds a few hundred, and maps are repeated fields. */
export const FIELDS_MAX = 100_000;

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;
const VARINT_BYTES_MAX = 10;

/**
 * Calls `visit` with each length-delimited field of a protobuf message, in order of the wire; the other wire types
 * are skipped. Strings, bytes, messages and map entries are all length-delimited, and nothing else is read here.
 * @throws ShoalError `Unsupported` for bytes that are not a protobuf message.
 */
export function readFields(message: Buffer, visit: (field: number, value: Buffer) => void): void {
  walkFields(message, ({ field, value }) => {
    if (value !== undefined) visit(field, value);
  });
}

/**
 * The message with the length-delimited fields for which `change` gives other bytes; all else, unknown fields and wire types
 * included, is copied byte for byte.
 * @throws ShoalError `Unsupported` for bytes that are not a protobuf message.
 */
export function rewriteFields(
  message: Buffer,
  change: (field: number, value: Buffer) => Uint8Array | undefined,
): Buffer {
  const parts: Buffer[] = [];
  walkFields(message, ({ field, value, start, end }) => {
    const changed = value && change(field, value);
    parts.push(changed === undefined ? message.subarray(start, end) : writeField(field, changed));
  });
  return Buffer.concat(parts);
}

/** The entry of a `map<string, string>` field. */
export function readMapEntry(entry: Buffer): readonly [key: string, value: string] {
  let key = '';
  let value = '';
  readFields(entry, (field, bytes) => {
    if (field === 1) key = bytes.toString();
    if (field === 2) value = bytes.toString();
  });
  return [key, value];
}

/** One length-delimited field. */
export function writeField(field: number, value: Uint8Array): Buffer {
  return Buffer.concat([writeVarint(field * 8 + BYTES), writeVarint(value.length), value]);
}

interface Field {
  readonly field: number;
  /** Undefined for the wire types that are not length-delimited. */
  readonly value: Buffer | undefined;
  /** Where the field, tag included, starts and ends in the message. */
  readonly start: number;
  readonly end: number;
}

function walkFields(message: Buffer, visit: (field: Field) => void): void {
  let start = 0;
  for (let count = 0; start < message.length; count += 1) {
    if (count === FIELDS_MAX) throw malformed(`more than ${FIELDS_MAX} fields`);
    const tag = readVarint(message, start);
    const field = Math.floor(tag.value / 8);
    const isBytes = tag.value % 8 === BYTES;
    const end = endOfValue(message, tag.end, tag.value % 8);
    const value = isBytes ? message.subarray(readVarint(message, tag.end).end, end) : undefined;
    visit({ field, value, start, end });
    start = end;
  }
}

function endOfValue(message: Buffer, offset: number, wireType: number): number {
  let end: number;
  if (wireType === VARINT) end = readVarint(message, offset).end;
  else if (wireType === FIXED64) end = offset + 8;
  else if (wireType === FIXED32) end = offset + 4;
  else if (wireType === BYTES) {
    const length = readVarint(message, offset);
    end = length.end + length.value;
  } else throw malformed(`wire type ${wireType} at byte ${offset}`);
  if (end > message.length) throw malformed(`a field that ends at byte ${end} of ${message.length}`);
  return end;
}

/** Values above 2^53 lose precision, which no tag or length that fits a message can have. */
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

function writeVarint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  return Buffer.from([...bytes, rest]);
}

function malformed(found: string): ShoalError {
  return new ShoalError(
    ErrorCode.Unsupported,
    `Cannot read "PullImageRequest": found ${found}, wanted a protobuf message`,
  );
}
