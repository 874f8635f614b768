import { type TarHeader, type TarTime, tarInvalid } from './tar-header.ts';

/** The largest extended header, long name or sparse map, bytes: the bound of Go's archive/tar, so of containerd. */
export const META_BYTES_MAX = 1 << 20;

/** A stretch of a sparse file that the tar holds data for; what lies between is a hole. */
export interface SparseFragment {
  readonly offset: number;
  readonly lengthBytes: number;
}

const NEWLINE = 0x0a;
const INT64_MAX = 2n ** 63n - 1n;
const INT64_MIN = -(2n ** 63n);

/**
 * Decodes an extended header (POSIX.1 pax, "pax Extended Header"). The pairs of GNU sparse format 0.0, which repeat
 * one key, are joined into the map of format 0.1. @throws UnpackInvalid
 */
export function decodePax(bytes: Buffer): Map<string, string> {
  const records = new Map<string, string>();
  const sparseNumbers: string[] = [];
  let offset = 0;
  while (offset < bytes.length) {
    const [key, value, next] = decodeRecord(bytes, offset);
    if (key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes') {
      const wanted = sparseNumbers.length % 2 === 0 ? 'GNU.sparse.offset' : 'GNU.sparse.numbytes';
      if (key !== wanted || value.includes(','))
        throw tarInvalid('the sparse map of an extended header is out of order');
      sparseNumbers.push(value);
    } else records.set(key, value);
    offset = next;
  }
  if (sparseNumbers.length > 0) records.set('GNU.sparse.map', sparseNumbers.join(','));
  return records;
}

/** `<length> <key>=<value>\n`, where the length counts itself. */
function decodeRecord(bytes: Buffer, start: number): [key: string, value: string, next: number] {
  const space = bytes.indexOf(0x20, start);
  const lengthText = space < 0 ? '' : bytes.toString('latin1', start, Math.min(space, start + 32));
  const next = start + (/^\+?[0-9]{1,9}$/.test(lengthText) ? Number(lengthText) : 0);
  if (next < start + 5 || next > bytes.length || next <= space + 1 || bytes[next - 1] !== 0x0a)
    throw tarInvalid('a record of an extended header has a wrong length');
  const equals = bytes.indexOf(0x3d, space);
  if (equals <= space + 1 || equals >= next - 1)
    throw tarInvalid('a record of an extended header has no key');
  const key = bytes.toString('latin1', space + 1, equals);
  const value = bytes.toString('latin1', equals + 1, next - 1);
  const isName = key === 'path' || key === 'linkpath' || key === 'uname' || key === 'gname';
  if ((isName ? value : key).includes('\0')) throw tarInvalid('a record of an extended header holds a NUL');
  return [key, value, next];
}

/** Overwrites what the records name; an empty value keeps the header's own. @throws UnpackInvalid */
export function applyPax(header: TarHeader, records: ReadonlyMap<string, string>): void {
  header.pax = records;
  for (const [key, value] of records) {
    if (value === '') continue;
    if (key === 'path') header.name = value;
    else if (key === 'linkpath') header.linkName = value;
    else if (key === 'size') header.sizeBytes = Number(decimal(value));
    else if (key === 'uid') header.uid = Number(BigInt.asUintN(32, decimal(value)));
    else if (key === 'gid') header.gid = Number(BigInt.asUintN(32, decimal(value)));
    else if (key === 'mtime') header.mtime = decodeTime(value);
    else if (key === 'atime') header.atime = decodeTime(value);
    else if (key === 'ctime') decodeTime(value);
  }
}

function decimal(text: string): bigint {
  if (!/^[+-]?[0-9]+$/.test(text) || text.length > 4096)
    throw tarInvalid('an extended header holds a malformed number');
  const value = BigInt(text.startsWith('+') ? text.slice(1) : text);
  if (value > INT64_MAX || value < INT64_MIN)
    throw tarInvalid('an extended header holds a number beyond 64 bits');
  return value;
}

/** Seconds with any number of decimal places, of which nine count. */
function decodeTime(text: string): TarTime {
  const [whole = '', ...rest] = text.split('.');
  const fraction = rest.join('.');
  if (!/^[0-9]*$/.test(fraction)) throw tarInvalid('an extended header holds a malformed time');
  const seconds = Number(decimal(whole));
  const nanoseconds = Number(fraction.slice(0, 9).padEnd(9, '0'));
  if (!whole.startsWith('-') || nanoseconds === 0) return { seconds, nanoseconds };
  return { seconds: seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}

/** How an entry says that it is sparse: not at all, by a map in its records, or by a map before its data. */
export type SparseForm = 'none' | 'records' | 'data';

/** Finds the GNU sparse formats 0.0 to 1.0 and takes over their name and size. @throws UnpackInvalid */
export function applySparse(header: TarHeader): SparseForm {
  const form = sparseFormOf(header.pax);
  if (form === 'none' || header.pax === undefined) return 'none';
  const name = header.pax.get('GNU.sparse.name') ?? '';
  if (name !== '') header.name = name;
  const size = header.pax.get('GNU.sparse.size') || header.pax.get('GNU.sparse.realsize') || '';
  if (size !== '') header.sizeBytes = Number(decimal(size));
  return form;
}

function sparseFormOf(pax: ReadonlyMap<string, string> | undefined): SparseForm {
  if (pax === undefined) return 'none';
  const major = pax.get('GNU.sparse.major') ?? '';
  const minor = pax.get('GNU.sparse.minor') ?? '';
  if (major === '0' && (minor === '0' || minor === '1')) return 'records';
  if (major === '1' && minor === '0') return 'data';
  if (major !== '' || minor !== '') return 'none';
  return (pax.get('GNU.sparse.map') ?? '') === '' ? 'none' : 'records';
}

/** The map of formats 0.0 and 0.1. @throws UnpackInvalid */
export function sparseMapOfRecords(header: TarHeader): SparseFragment[] {
  const count = decimal(header.pax?.get('GNU.sparse.numblocks') ?? '');
  const map = header.pax?.get('GNU.sparse.map') ?? '';
  const numbers = map === '' ? [] : map.split(',');
  if (count < 0n || BigInt(numbers.length) !== 2n * count)
    throw tarInvalid(`a sparse map has ${numbers.length} numbers, 2 × ${count} wanted`);
  return fragmentsOf(numbers, header.sizeBytes);
}

/**
 * How many lines the map of format 1.0 has in all, by its first: decimal lines, the number of pairs and then the pairs,
 * padded to a block. `bytes` holds the first line at least. @throws UnpackInvalid
 */
export function sparseMapLines(bytes: Buffer): number {
  const pairs = decimal(bytes.toString('latin1', 0, bytes.indexOf(NEWLINE)));
  if (pairs < 0n || pairs > BigInt(META_BYTES_MAX)) throw tarInvalid('a sparse map has a malformed length');
  return 1 + 2 * Number(pairs);
}

/** The map of format 1.0; `bytes` holds all its lines. @throws UnpackInvalid */
export function sparseMapOfData(bytes: Buffer, header: TarHeader): SparseFragment[] {
  const lines = bytes.toString('latin1').split('\n', sparseMapLines(bytes));
  return fragmentsOf(lines.slice(1), header.sizeBytes);
}

export function countNewlines(bytes: Buffer): number {
  let count = 0;
  for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) count++;
  return count;
}

function fragmentsOf(numbers: readonly string[], sizeBytes: number): SparseFragment[] {
  const fragments: SparseFragment[] = [];
  let previousEnd = 0;
  for (let i = 0; i < numbers.length; i += 2) {
    const offset = Number(decimal(numbers[i] ?? ''));
    const lengthBytes = Number(decimal(numbers[i + 1] ?? ''));
    if (offset < previousEnd || lengthBytes < 0 || offset + lengthBytes > sizeBytes)
      throw tarInvalid('a sparse map overlaps itself or the end of its file');
    previousEnd = offset + lengthBytes;
    fragments.push({ offset, lengthBytes });
  }
  return fragments;
}
