/** One entry of a hand-made tar. Text is written byte by byte (0–255), so that any name can be made. */
export interface EntryFields {
  readonly name: string;
  /** One character; default a regular file. */
  readonly type?: string;
  readonly data?: string | Buffer;
  /** Claimed in the header; default the length of `data`. */
  readonly size?: number | Buffer;
  readonly mode?: number;
  readonly uid?: number | Buffer;
  readonly gid?: number;
  readonly mtime?: number | Buffer;
  readonly linkName?: string;
  readonly deviceMajor?: number;
  readonly deviceMinor?: number;
  readonly prefix?: string;
  /** ustar by default. */
  readonly format?: 'ustar' | 'gnu' | 'v7' | 'star';
  /** An extended header put before the entry. */
  readonly pax?: Readonly<Record<string, string>>;
  /** Written over the header before its checksum: offset and bytes. */
  readonly raw?: readonly (readonly [offset: number, bytes: string | Buffer])[];
  /** Sums signed bytes, as old Sun tars did. */
  readonly signedChecksum?: boolean;
}

const BLOCK_BYTES = 512;
const MAGIC = { ustar: 'ustar\x0000', gnu: 'ustar  \0', star: 'ustar\x0000', v7: '' } as const;

/** Entries and the end-of-archive marker. */
export function archive(...entries: (EntryFields | Buffer)[]): Buffer {
  const parts = entries.map((each) => (Buffer.isBuffer(each) ? each : entry(each)));
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK_BYTES)]);
}

export function entry(fields: EntryFields): Buffer {
  const data =
    typeof fields.data === 'string' ? Buffer.from(fields.data, 'latin1') : (fields.data ?? Buffer.alloc(0));
  const parts = [header(fields, data.length), padded(data)];
  if (fields.pax !== undefined)
    parts.unshift(entry({ name: 'pax', type: 'x', data: paxRecords(fields.pax) }));
  return Buffer.concat(parts);
}

/** The body of an extended header. */
export function paxRecords(records: Readonly<Record<string, string>>): Buffer {
  return Buffer.concat(Object.entries(records).map(([key, value]) => paxRecord(key, value)));
}

export function paxRecord(key: string, value: string): Buffer {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + 1;
  while (`${length}${rest}`.length !== length) length++;
  return Buffer.from(`${length}${rest}`, 'latin1');
}

/** A GNU long name (`L`) or long link (`K`) header. */
export function gnuLong(type: 'L' | 'K', text: string): Buffer {
  return entry({ name: '././@LongLink', type, data: `${text}\0`, format: 'gnu' });
}

/** GNU's base-256 form of a number, also a negative one. */
export function base256(value: bigint, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let rest = value;
  for (let i = length - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  bytes[0] = (bytes[0] ?? 0) | 0x80;
  return bytes;
}

function header(fields: EntryFields, dataBytes: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const put = (offset: number, value: string | Buffer): void => {
    (typeof value === 'string' ? Buffer.from(value, 'latin1') : value).copy(block, offset);
  };
  const format = fields.format ?? 'ustar';
  put(0, fields.name.slice(0, 100));
  put(100, octal(fields.mode ?? 0o644, 8));
  put(108, octal(fields.uid ?? 0, 8));
  put(116, octal(fields.gid ?? 0, 8));
  put(124, octal(fields.size ?? dataBytes, 12));
  put(136, octal(fields.mtime ?? 1_600_000_000, 12));
  put(156, fields.type ?? '0');
  put(157, (fields.linkName ?? '').slice(0, 100));
  put(257, MAGIC[format]);
  if (format !== 'v7') {
    put(329, octal(fields.deviceMajor ?? 0, 8));
    put(337, octal(fields.deviceMinor ?? 0, 8));
    put(345, fields.prefix ?? '');
  }
  if (format === 'star') put(508, 'tar\0');
  for (const [offset, bytes] of fields.raw ?? []) put(offset, bytes);
  put(
    148,
    `${checksum(block, fields.signedChecksum ?? false)
      .toString(8)
      .padStart(6, '0')}\0 `,
  );
  return block;
}

function checksum(block: Buffer, isSigned: boolean): number {
  let sum = 0;
  for (const [i, byte] of block.entries()) {
    const value = i >= 148 && i < 156 ? 0x20 : byte;
    sum += isSigned && value > 127 ? value - 256 : value;
  }
  return sum;
}

function octal(value: number | Buffer, length: number): string | Buffer {
  if (typeof value !== 'number') return value;
  const digits = value.toString(8);
  return digits.length < length ? `${digits.padStart(length - 1, '0')}\0` : base256(BigInt(value), length);
}

function padded(data: Buffer): Buffer {
  const over = data.length % BLOCK_BYTES;
  return over === 0 ? data : Buffer.concat([data, Buffer.alloc(BLOCK_BYTES - over)]);
}
