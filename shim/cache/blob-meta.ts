import { crc32 } from 'node:zlib';
import type { BlobKey } from '../base/blob-key.ts';
import { digestFromHex, hexOf } from '../base/digest.ts';

/**
 * The sidecar of a cached blob: an append-only list of records, each with its own checksum, so a torn append is
 * recognised and cut off. README.md has the byte layout.
 */
export const MetaRecordType = { Blob: 1, Chunk: 2, Drop: 3, Confirmed: 4, Adopted: 5 } as const;

export type MetaRecord =
  | {
      readonly type: typeof MetaRecordType.Blob;
      readonly key: BlobKey;
      readonly sizeBytes: number;
      readonly chunkSizeBytes: number;
    }
  | { readonly type: typeof MetaRecordType.Chunk; readonly chunk: number; readonly hash: Uint8Array }
  | { readonly type: typeof MetaRecordType.Drop; readonly chunk: number }
  | { readonly type: typeof MetaRecordType.Confirmed }
  | { readonly type: typeof MetaRecordType.Adopted; readonly path: string };

/** What a sidecar says after all its whole records have been applied. */
export interface BlobMeta {
  readonly key: BlobKey;
  readonly sizeBytes: number;
  readonly chunkSizeBytes: number;
  /** Chunk index to SHA-256 of the chunk. */
  readonly hashes: ReadonlyMap<number, Uint8Array>;
  readonly confirmed: boolean;
  readonly adoptedPath: string | undefined;
  /** Length of the readable part; what follows is a torn append. */
  readonly validBytes: number;
}

const HASH_BYTES = 32;
const HEAD_BYTES = 3;
const CHECKSUM_BYTES = 4;
const BLOB_FIXED_BYTES = 8 + 4 + HASH_BYTES;
const CHUNK_BYTES = 4 + HASH_BYTES;

export function encodeMetaRecord(record: MetaRecord): Buffer {
  const payload = encodePayload(record);
  const out = Buffer.allocUnsafe(HEAD_BYTES + payload.length + CHECKSUM_BYTES);
  out.writeUInt8(record.type, 0);
  out.writeUInt16BE(payload.length, 1);
  payload.copy(out, HEAD_BYTES);
  out.writeUInt32BE(crc32(out.subarray(0, HEAD_BYTES + payload.length)), HEAD_BYTES + payload.length);
  return out;
}

/** Reads as many whole records as there are; `undefined` when not even the first names a blob. */
export function parseMeta(bytes: Buffer): BlobMeta | undefined {
  const first = parseRecord(bytes, 0);
  if (first?.record.type !== MetaRecordType.Blob) return undefined;
  const { key, sizeBytes, chunkSizeBytes } = first.record;
  const chunkCount = Math.ceil(sizeBytes / chunkSizeBytes);
  const hashes = new Map<number, Uint8Array>();
  let confirmed = false;
  let adoptedPath: string | undefined;
  let offset = first.endOffset;
  for (let next = parseRecord(bytes, offset); next !== undefined; next = parseRecord(bytes, offset)) {
    const { record } = next;
    if (record.type === MetaRecordType.Blob) break;
    if (record.type === MetaRecordType.Chunk && record.chunk >= chunkCount) break;
    if (record.type === MetaRecordType.Chunk) hashes.set(record.chunk, record.hash);
    if (record.type === MetaRecordType.Drop) hashes.delete(record.chunk);
    if (record.type === MetaRecordType.Confirmed) confirmed = true;
    if (record.type === MetaRecordType.Adopted) adoptedPath = record.path;
    offset = next.endOffset;
  }
  return { key, sizeBytes, chunkSizeBytes, hashes, confirmed, adoptedPath, validBytes: offset };
}

function encodePayload(record: MetaRecord): Buffer {
  switch (record.type) {
    case MetaRecordType.Blob: {
      const fixed = Buffer.allocUnsafe(BLOB_FIXED_BYTES);
      fixed.writeBigUInt64BE(BigInt(record.sizeBytes), 0);
      fixed.writeUInt32BE(record.chunkSizeBytes, 8);
      fixed.write(hexOf(record.key.digest), 12, 'hex');
      return Buffer.concat([fixed, Buffer.from(record.key.host)]);
    }
    case MetaRecordType.Chunk: {
      const payload = Buffer.allocUnsafe(CHUNK_BYTES);
      payload.writeUInt32BE(record.chunk, 0);
      payload.set(record.hash, 4);
      return payload;
    }
    case MetaRecordType.Drop: {
      const payload = Buffer.allocUnsafe(4);
      payload.writeUInt32BE(record.chunk, 0);
      return payload;
    }
    case MetaRecordType.Confirmed:
      return Buffer.alloc(0);
    case MetaRecordType.Adopted:
      return Buffer.from(record.path);
  }
}

function parseRecord(bytes: Buffer, offset: number): { record: MetaRecord; endOffset: number } | undefined {
  if (offset + HEAD_BYTES > bytes.length) return undefined;
  const payloadEnd = offset + HEAD_BYTES + bytes.readUInt16BE(offset + 1);
  if (payloadEnd + CHECKSUM_BYTES > bytes.length) return undefined;
  if (bytes.readUInt32BE(payloadEnd) !== crc32(bytes.subarray(offset, payloadEnd))) return undefined;
  const record = parsePayload(bytes.readUInt8(offset), bytes.subarray(offset + HEAD_BYTES, payloadEnd));
  return record && { record, endOffset: payloadEnd + CHECKSUM_BYTES };
}

function parsePayload(type: number, payload: Buffer): MetaRecord | undefined {
  switch (type) {
    case MetaRecordType.Blob:
      return parseBlobPayload(payload);
    case MetaRecordType.Chunk:
      if (payload.length !== CHUNK_BYTES) return undefined;
      return { type, chunk: payload.readUInt32BE(0), hash: Uint8Array.from(payload.subarray(4)) };
    case MetaRecordType.Drop:
      return payload.length === 4 ? { type, chunk: payload.readUInt32BE(0) } : undefined;
    case MetaRecordType.Confirmed:
      return payload.length === 0 ? { type } : undefined;
    case MetaRecordType.Adopted:
      return { type, path: payload.toString() };
    default:
      return undefined;
  }
}

function parseBlobPayload(payload: Buffer): MetaRecord | undefined {
  if (payload.length <= BLOB_FIXED_BYTES) return undefined;
  const sizeBytes = Number(payload.readBigUInt64BE(0));
  const chunkSizeBytes = payload.readUInt32BE(8);
  if (!Number.isSafeInteger(sizeBytes) || chunkSizeBytes === 0) return undefined;
  const digest = digestFromHex(payload.toString('hex', 12, 12 + HASH_BYTES));
  const host = payload.toString('utf8', BLOB_FIXED_BYTES);
  return { type: MetaRecordType.Blob, key: { host, digest }, sizeBytes, chunkSizeBytes };
}
