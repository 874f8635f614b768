import { unreachable } from '../base/assert.ts';
import type { BlobKey } from '../base/blob-key.ts';
import { digestFromHex, hexOf } from '../base/digest.ts';
import { BLOB_SIZE_MAX_BYTES, CHUNK_HASH_BYTES, CHUNK_SIZE_BYTES } from '../swarm/limits.ts';
import type { ChunkRun, HashRun, Holder, PeerId, PeerMessage } from '../swarm/messages.ts';
import { ByteReader, ByteWriter, protocolError } from './byte-codec.ts';
import { FrameType } from './frame.ts';

/** Chunks of the largest blob that anybody may speak of. */
const CHUNKS_MAX = BLOB_SIZE_MAX_BYTES / CHUNK_SIZE_BYTES;
const HELD_BYTES_MAX = CHUNKS_MAX / 8;
/** Twice what the core puts into one answer. */
const HOLDERS_MAX = 64;
const HOLDER_BYTES_MIN = 3;
/** Runs in one list; each hash run holds at least one hash, so the frame bounds these too. */
const RUNS_MAX = 4096;
const RUN_BYTES = 8;
const LEASE_BYTES = 12;
const HASH_RUN_BYTES_MIN = 6;
/** `address:port`, the address possibly in brackets. */
const PEER_ID = /^[0-9A-Za-z.:[\]%_-]{1,240}:\d{1,5}$/;

/** One frame with the message. README.md has the layouts. */
export function encodeMessage(message: PeerMessage): Buffer {
  const writer = new ByteWriter();
  writer.u32(0).u8(FrameType[message.kind]);
  writeBody(writer, message);
  writer.patchU32(0, writer.length - 5);
  return writer.finish();
}

/** Reads the payload of a control frame. @throws PeerProtocol; never reads or makes more than the payload says. */
export function parseMessage(type: number, payload: Buffer): PeerMessage {
  const reader = new ByteReader(payload);
  const message = readBody(type, reader);
  reader.end();
  return message;
}

export function isPeerId(text: string): text is PeerId {
  return PEER_ID.test(text);
}

function writeBody(writer: ByteWriter, message: PeerMessage): void {
  switch (message.kind) {
    case 'announce':
      writeKey(writer, message.key).u64(message.sizeBytes).u32(message.chunksHeld);
      writer.u8(message.complete ? 1 : 0).u16(Math.min(message.leasesWanted, 0xffff));
      writer.u32(Math.ceil(message.ttlMs)).string(message.zone);
      writeList(writer, message.missing, writeRun);
      writeList(writer, message.leased, writeRun);
      writeHeld(writer, message.held);
      return;
    case 'directory':
      writeKey(writer, message.key);
      writeList(writer, message.holders, writeHolder);
      writeList(writer, message.leases, writeLease);
      writeList(writer, message.imports, writeLease);
      writeList(writer, message.hashes, writeHashRun);
      return;
    case 'publish':
      writeHashRun(message.hashes, writeKey(writer, message.key));
      return;
    case 'returnLease':
      writeRun(message.run, writeKey(writer, message.key)).u32(Math.ceil(message.retryAfterMs));
      return;
    case 'depart':
    case 'unfollow':
      writeKey(writer, message.key);
      return;
    case 'follow':
      writeKey(writer, message.key).u64(message.sizeBytes);
      return;
    case 'refuse':
      writeKey(writer, message.key).u32(Math.ceil(message.retryAfterMs));
      return;
    case 'bitmap':
      writeHeld(writeKey(writer, message.key), message.held);
      writeList(writer, message.hashes, writeHashRun);
      return;
    case 'have':
      writeList(writeKey(writer, message.key), message.hashes, writeHashRun);
      return;
    case 'request':
      writeKey(writer.u32(message.requestId), message.key).u32(message.chunk);
      return;
    case 'cancel':
    case 'gone':
      writer.u32(message.requestId);
      return;
    case 'busy':
      writer.u32(message.requestId).u32(Math.ceil(message.retryAfterMs));
      return;
    case 'askBudget':
      writeAmount(writer, message).u8(message.isMoving ? 1 : 0);
      return;
    case 'grantBudget':
      writeAmount(writer, message).u32(Math.ceil(message.retryAfterMs));
      return;
    default:
      unreachable(message, 'peer message');
  }
}

function readBody(type: number, reader: ByteReader): PeerMessage {
  switch (type) {
    case FrameType.announce:
      return readAnnounce(reader);
    case FrameType.directory:
      return {
        kind: 'directory',
        key: readKey(reader),
        holders: readList(reader, HOLDERS_MAX, HOLDER_BYTES_MIN, 'holders', readHolder),
        leases: readList(reader, RUNS_MAX, LEASE_BYTES, 'leases', readLease),
        imports: readList(reader, RUNS_MAX, LEASE_BYTES, 'imports', readLease),
        hashes: readHashRuns(reader),
      };
    case FrameType.publish:
      return { kind: 'publish', key: readKey(reader), hashes: readHashRun(reader) };
    case FrameType.returnLease:
      return { kind: 'returnLease', key: readKey(reader), run: readRun(reader), retryAfterMs: reader.u32() };
    case FrameType.depart:
      return { kind: 'depart', key: readKey(reader) };
    case FrameType.unfollow:
      return { kind: 'unfollow', key: readKey(reader) };
    case FrameType.follow:
      return { kind: 'follow', key: readKey(reader), sizeBytes: readSize(reader) };
    case FrameType.refuse:
      return { kind: 'refuse', key: readKey(reader), retryAfterMs: reader.u32() };
    case FrameType.bitmap:
      return { kind: 'bitmap', key: readKey(reader), held: readHeld(reader), hashes: readHashRuns(reader) };
    case FrameType.have:
      return { kind: 'have', key: readKey(reader), hashes: readHashRuns(reader) };
    case FrameType.request:
      return { kind: 'request', requestId: reader.u32(), key: readKey(reader), chunk: readChunk(reader) };
    case FrameType.cancel:
      return { kind: 'cancel', requestId: reader.u32() };
    case FrameType.gone:
      return { kind: 'gone', requestId: reader.u32() };
    case FrameType.busy:
      return { kind: 'busy', requestId: reader.u32(), retryAfterMs: reader.u32() };
    case FrameType.askBudget:
      return { kind: 'askBudget', ...readAmount(reader), isMoving: readFlag(reader) };
    case FrameType.grantBudget:
      return { kind: 'grantBudget', ...readAmount(reader), retryAfterMs: reader.u32() };
    default:
      throw protocolError(`frame type ${type} is not known`);
  }
}

function readAnnounce(reader: ByteReader): PeerMessage {
  return {
    kind: 'announce',
    key: readKey(reader),
    sizeBytes: readSize(reader),
    chunksHeld: reader.u32(),
    complete: readFlag(reader),
    leasesWanted: reader.u16(),
    ttlMs: reader.u32(),
    zone: reader.string(),
    missing: readList(reader, RUNS_MAX, RUN_BYTES, 'runs', readRun),
    leased: readList(reader, RUNS_MAX, RUN_BYTES, 'runs', readRun),
    held: readHeld(reader),
  };
}

/** What budgets speak of: which host's, in which ask, how much. */
interface Amount {
  readonly host: string;
  readonly number: number;
  readonly bytes: number;
  readonly requests: number;
}

function writeAmount(writer: ByteWriter, { host, number, bytes, requests }: Amount): ByteWriter {
  return writer.string(host).u32(number).u64(bytes).u16(requests);
}

function readAmount(reader: ByteReader): Amount {
  const host = reader.string();
  const number = reader.u32();
  return { host, number, bytes: reader.u64(BLOB_SIZE_MAX_BYTES, 'an amount'), requests: reader.u16() };
}

function writeKey(writer: ByteWriter, key: BlobKey): ByteWriter {
  return writer.raw(Buffer.from(hexOf(key.digest), 'hex')).string(key.host);
}

function readKey(reader: ByteReader): BlobKey {
  const digest = digestFromHex(Buffer.from(reader.raw(CHUNK_HASH_BYTES)).toString('hex'));
  return { digest, host: reader.string() };
}

function writeList<T>(
  writer: ByteWriter,
  items: readonly T[],
  write: (item: T, writer: ByteWriter) => unknown,
): void {
  writer.u16(items.length);
  for (const item of items) write(item, writer);
}

function readList<T>(
  reader: ByteReader,
  max: number,
  itemBytes: number,
  what: string,
  read: (reader: ByteReader) => T,
): T[] {
  const count = reader.count(max, itemBytes, what);
  const items: T[] = [];
  for (let index = 0; index < count; index++) items.push(read(reader));
  return items;
}

function writeRun(run: ChunkRun, writer: ByteWriter): ByteWriter {
  return writer.u32(run.firstChunk).u32(run.chunkCount);
}

function readRun(reader: ByteReader): ChunkRun {
  return checkRun({ firstChunk: reader.u32(), chunkCount: reader.u32() });
}

function writeLease(lease: ChunkRun & { readonly ttlMs: number }, writer: ByteWriter): ByteWriter {
  return writeRun(lease, writer).u32(Math.ceil(lease.ttlMs));
}

function readLease(reader: ByteReader): ChunkRun & { readonly ttlMs: number } {
  return { ...readRun(reader), ttlMs: reader.u32() };
}

function writeHashRun(run: HashRun, writer: ByteWriter): ByteWriter {
  writer.u32(run.firstChunk).u16(run.hashes.length);
  for (const hash of run.hashes) writer.raw(hash);
  return writer;
}

function readHashRun(reader: ByteReader): HashRun {
  const firstChunk = reader.u32();
  const count = reader.count(CHUNKS_MAX, CHUNK_HASH_BYTES, 'hashes');
  checkRun({ firstChunk, chunkCount: count });
  const hashes: Uint8Array[] = [];
  for (let index = 0; index < count; index++) hashes.push(reader.raw(CHUNK_HASH_BYTES));
  return { firstChunk, hashes };
}

function readHashRuns(reader: ByteReader): HashRun[] {
  return readList(reader, RUNS_MAX, HASH_RUN_BYTES_MIN, 'hash runs', readHashRun);
}

function writeHolder(holder: Holder, writer: ByteWriter): void {
  writer
    .string(holder.peer)
    .string(holder.zone)
    .u8(holder.complete ? 1 : 0);
}

function readHolder(reader: ByteReader): Holder {
  const peer = reader.string();
  if (!isPeerId(peer)) throw protocolError('a holder is not named "address:port"');
  return { peer, zone: reader.string(), complete: readFlag(reader) };
}

function writeHeld(writer: ByteWriter, held: Uint8Array): void {
  writer.u32(held.length).raw(held);
}

function readHeld(reader: ByteReader): Uint8Array {
  const length = reader.u32();
  if (length > HELD_BYTES_MAX)
    throw protocolError(`a bitmap of ${length} bytes, at most ${HELD_BYTES_MAX} are allowed`);
  return reader.raw(length);
}

function readSize(reader: ByteReader): number {
  return reader.u64(BLOB_SIZE_MAX_BYTES, 'a blob size');
}

function readChunk(reader: ByteReader): number {
  return checkRun({ firstChunk: reader.u32(), chunkCount: 1 }).firstChunk;
}

function readFlag(reader: ByteReader): boolean {
  const value = reader.u8();
  if (value > 1) throw protocolError(`a flag is ${value}, 0 or 1 wanted`);
  return value === 1;
}

function checkRun(run: ChunkRun): ChunkRun {
  if (run.firstChunk + run.chunkCount > CHUNKS_MAX)
    throw protocolError(`a chunk index is above ${CHUNKS_MAX}`);
  return run;
}
