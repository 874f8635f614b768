import { ErrorCode, ShoalError } from '../base/errors.ts';

/** Sizes of everything in a tar are rounded up to this, bytes (POSIX.1 pax, "ustar Interchange Format"). */
export const BLOCK_BYTES = 512;

/** The type flags that a layer may hold (POSIX.1 pax and GNU tar), as character codes. */
export const TypeFlag = {
  regularOld: 0x00,
  regular: 0x30,
  link: 0x31,
  symlink: 0x32,
  character: 0x33,
  block: 0x34,
  directory: 0x35,
  fifo: 0x36,
  globalPax: 0x67,
  pax: 0x78,
  gnuLongLink: 0x4b,
  gnuLongName: 0x4c,
} as const;

/**
 * One entry's header. Names and values are byte strings: one UTF-16 unit, 0–255, per byte of the tar, because file
 * names need not be UTF-8 and must arrive on disk as they are.
 */
export interface TarHeader {
  typeFlag: number;
  name: string;
  linkName: string;
  /** Of a sparse file, the size with its holes. Beyond 2^53 only roughly right, which no limit lets through. */
  sizeBytes: number;
  /** The nine permission bits, setuid, setgid and sticky. */
  mode: number;
  /** The low 32 bits, as the kernel takes them. */
  uid: number;
  gid: number;
  deviceMajor: number;
  deviceMinor: number;
  mtime: TarTime;
  /** The time of last access, where the tar holds one. */
  atime: TarTime | undefined;
  /** `SCHILY.xattr.*` and all other records of the entry's extended header. */
  pax: ReadonlyMap<string, string> | undefined;
}

/** Seconds since 1970, rounded down, and 0…999,999,999 nanoseconds on top. */
export interface TarTime {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** Byte ranges of the header's fields: offset and length. */
const Field = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  linkName: [157, 100],
  deviceMajor: [329, 8],
  deviceMinor: [337, 8],
  prefix: [345, 155],
  starPrefix: [345, 131],
  starAtime: [476, 12],
  starCtime: [488, 12],
  gnuAtime: [345, 12],
  gnuCtime: [357, 12],
} as const;
type FieldRange = readonly [offset: number, length: number];

const TYPE_FLAG_OFFSET = 156;
const MAGIC_OFFSET = 257;
const STAR_TRAILER_OFFSET = 508;
const SPACE = 0x20;

export function tarInvalid(state: string): ShoalError {
  return new ShoalError(ErrorCode.UnpackInvalid, `Cannot read layer tar: ${state}`);
}

/** Whether the type holds no data, whatever its size field says. */
export function isHeaderOnly(typeFlag: number): boolean {
  return typeFlag >= TypeFlag.link && typeFlag <= TypeFlag.fifo;
}

export function isZeroBlock(bytes: Buffer, offset: number): boolean {
  for (let i = offset; i < offset + BLOCK_BYTES; i++) if (bytes[i] !== 0) return false;
  return true;
}

/** Decodes the 512 bytes at `offset`: v7, ustar, pax, star and GNU. @throws UnpackInvalid */
export function decodeTarHeader(bytes: Buffer, offset: number): TarHeader {
  verifyChecksum(bytes, offset);
  const header: TarHeader = {
    typeFlag: bytes[offset + TYPE_FLAG_OFFSET] as number,
    name: textField(bytes, offset, Field.name),
    linkName: textField(bytes, offset, Field.linkName),
    sizeBytes: numberField(bytes, offset, Field.size),
    mode: lowBitsField(bytes, offset, Field.mode) & 0o7777,
    uid: lowBitsField(bytes, offset, Field.uid),
    gid: lowBitsField(bytes, offset, Field.gid),
    deviceMajor: 0,
    deviceMinor: 0,
    mtime: wholeSeconds(numberField(bytes, offset, Field.mtime)),
    atime: undefined,
    pax: undefined,
  };
  if (hasText(bytes, offset + MAGIC_OFFSET, 'ustar')) decodeExtension(header, bytes, offset);
  return header;
}

function decodeExtension(header: TarHeader, bytes: Buffer, offset: number): void {
  const isUstar = hasText(bytes, offset + MAGIC_OFFSET + 5, '\0');
  const isGnu = hasText(bytes, offset + MAGIC_OFFSET + 5, '  \0');
  if (!isUstar && !isGnu) return;
  header.deviceMajor = lowBitsField(bytes, offset, Field.deviceMajor);
  header.deviceMinor = lowBitsField(bytes, offset, Field.deviceMinor);
  if (isGnu) decodeGnuTimes(header, bytes, offset);
  else decodeUstarFields(header, bytes, offset);
}

function decodeUstarFields(header: TarHeader, bytes: Buffer, offset: number): void {
  const isStar = hasText(bytes, offset + STAR_TRAILER_OFFSET, 'tar\0');
  addPrefix(header, textField(bytes, offset, isStar ? Field.starPrefix : Field.prefix));
  if (!isStar) return;
  header.atime = wholeSeconds(numberField(bytes, offset, Field.starAtime));
  numberField(bytes, offset, Field.starCtime);
}

/** Go before 1.8 wrote a ustar prefix where GNU has two times; Go's reader, hence containerd, still reads it. */
function decodeGnuTimes(header: TarHeader, bytes: Buffer, offset: number): void {
  const hasAtime = bytes[offset + Field.gnuAtime[0]] !== 0;
  const hasCtime = bytes[offset + Field.gnuCtime[0]] !== 0;
  try {
    if (hasAtime) header.atime = wholeSeconds(numberField(bytes, offset, Field.gnuAtime));
    if (hasCtime) numberField(bytes, offset, Field.gnuCtime);
  } catch {
    header.atime = undefined;
    const prefix = textField(bytes, offset, Field.prefix);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII without NUL is meant
    if (/^[\x01-\x7f]*$/.test(prefix)) addPrefix(header, prefix);
  }
}

function addPrefix(header: TarHeader, prefix: string): void {
  if (prefix !== '') header.name = `${prefix}/${header.name}`;
}

/** The sum of all bytes with the checksum field read as spaces; old Sun tars summed signed bytes. */
function verifyChecksum(bytes: Buffer, offset: number): void {
  const [at, length] = Field.checksum;
  let sum = SPACE * length;
  let highBytes = 0;
  const end = offset + BLOCK_BYTES;
  for (let i = offset; i < end; i++) {
    if (i === offset + at) i += length;
    const byte = bytes[i] as number;
    sum += byte;
    highBytes += byte >> 7;
  }
  const claimed = octal(bytes, offset + at, offset + at + length);
  if (claimed === sum || claimed === sum - 256 * highBytes) return;
  throw tarInvalid(`header checksum is ${claimed}, ${sum} wanted`);
}

function hasText(bytes: Buffer, offset: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[offset + i] !== text.charCodeAt(i)) return false;
  return true;
}

function textField(bytes: Buffer, base: number, [offset, length]: FieldRange): string {
  const start = base + offset;
  let end = start;
  while (end < start + length && bytes[end] !== 0) end++;
  return bytes.toString('latin1', start, end);
}

function wholeSeconds(seconds: number): TarTime {
  return { seconds, nanoseconds: 0 };
}

/** A number in octal, or base 256 when the first bit is set; base 256 may be negative. */
function numberField(bytes: Buffer, base: number, [offset, length]: FieldRange): number {
  const start = base + offset;
  if (((bytes[start] as number) & 0x80) === 0) return octal(bytes, start, start + length);
  const invert = base256Inversion(bytes, start, length);
  let value = ((bytes[start] as number) ^ invert) & 0x7f;
  for (let i = start + 1; i < start + length; i++) value = value * 256 + ((bytes[i] as number) ^ invert);
  return invert === 0 ? value : -value - 1;
}

/** As `numberField`, cut to 32 unsigned bits. */
function lowBitsField(bytes: Buffer, base: number, field: FieldRange): number {
  const start = base + field[0];
  if (((bytes[start] as number) & 0x80) === 0) return numberField(bytes, base, field) % 2 ** 32;
  base256Inversion(bytes, start, field[1]);
  return bytes.readUInt32BE(start + field[1] - 4);
}

/** The mask that makes a negative number's bytes positive. Refuses what a signed 64-bit number cannot hold. */
function base256Inversion(bytes: Buffer, start: number, length: number): number {
  const invert = ((bytes[start] as number) & 0x40) === 0 ? 0 : 0xff;
  for (let i = start; i <= start + length - 8; i++) {
    const byte = ((bytes[i] as number) ^ invert) & (i === start ? 0x7f : 0xff);
    const isTop = i === start + length - 8;
    if (byte > (isTop ? 0x7f : 0)) throw tarInvalid('a number field holds more than 63 bits');
  }
  return invert;
}

/** Octal digits with any NULs and spaces around them; a NUL ends the digits. */
function octal(bytes: Buffer, from: number, to: number): number {
  let start = from;
  let end = to;
  while (start < end && isPadding(bytes[start] as number)) start++;
  while (end > start && isPadding(bytes[end - 1] as number)) end--;
  let value = 0;
  for (let i = start; i < end; i++) {
    const digit = (bytes[i] as number) - 0x30;
    if (digit === -0x30) break;
    if (digit < 0 || digit > 7)
      throw tarInvalid(`a number field holds "${bytes.toString('latin1', from, to)}", octal digits wanted`);
    value = value * 8 + digit;
  }
  return value;
}

function isPadding(byte: number): boolean {
  return byte === 0 || byte === SPACE;
}
