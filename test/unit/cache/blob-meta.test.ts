import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { digestOf } from '../../../shim/base/digest.ts';
import {
  encodeMetaRecord,
  type MetaRecord,
  MetaRecordType,
  parseMeta,
} from '../../../shim/cache/blob-meta.ts';

const header: MetaRecord = {
  type: MetaRecordType.Blob,
  key: { host: 'registry.test:5000', digest: digestOf('x') },
  sizeBytes: 10_000_000_000_000,
  chunkSizeBytes: 2 ** 21,
};
const chunk = (index: number): MetaRecord => ({
  type: MetaRecordType.Chunk,
  chunk: index,
  hash: Uint8Array.from(randomBytes(32)),
});
const bytesOf = (...records: MetaRecord[]) => Buffer.concat(records.map(encodeMetaRecord));

test('parseMeta() gives back what was recorded', () => {
  const first = chunk(0);
  const meta = parseMeta(
    bytesOf(
      header,
      first,
      chunk(7),
      { type: MetaRecordType.Drop, chunk: 7 },
      { type: MetaRecordType.Confirmed },
      { type: MetaRecordType.Adopted, path: '/var/lib/blob' },
    ),
  );
  assert.equal(meta?.key, header.type === MetaRecordType.Blob && header.key);
  assert.is(meta?.sizeBytes, 10_000_000_000_000);
  assert.equal([...(meta?.hashes ?? [])], [[0, first.type === MetaRecordType.Chunk && first.hash]]);
  assert.ok(meta?.confirmed);
  assert.is(meta?.adoptedPath, '/var/lib/blob');
});

test('parseMeta() stops at a record that is torn at any byte', () => {
  const whole = bytesOf(header, chunk(0));
  const torn = bytesOf(header, chunk(0), chunk(1));
  for (let length = whole.length; length < torn.length; length++) {
    const meta = parseMeta(torn.subarray(0, length));
    assert.equal([...(meta?.hashes.keys() ?? [])], [0]);
    assert.is(meta?.validBytes, whole.length);
  }
});

test('parseMeta() takes no record whose bytes have changed', () => {
  const bytes = bytesOf(header, chunk(0));
  const start = bytesOf(header).length;
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ 0x10;
    const meta = parseMeta(changed);
    if (at < start) assert.is(meta, undefined);
    else assert.is(meta?.hashes.size, 0);
  }
});

test('parseMeta() refuses chunks that the blob does not have', () => {
  const small: MetaRecord = { ...header, sizeBytes: 1 } as MetaRecord;
  assert.is(parseMeta(bytesOf(small, chunk(1)))?.hashes.size, 0);
});

test('parseMeta() takes any bytes without throwing', () => {
  for (let round = 0; round < 2000; round++) parseMeta(randomBytes(round % 200));
});

test.run();
