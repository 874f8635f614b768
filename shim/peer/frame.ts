import { CHUNK_SIZE_BYTES } from '../swarm/limits.ts';
import { ByteReader, ByteWriter, protocolError } from './byte-codec.ts';
import { NodeRole } from './root-watch.ts';

/** Byte 4 of a frame. Numbers are the wire format of version 1; README.md has the table. */
export const FrameType = {
  hello: 1,
  chunk: 2,
  announce: 16,
  directory: 17,
  publish: 18,
  returnLease: 19,
  depart: 20,
  follow: 21,
  refuse: 22,
  bitmap: 23,
  have: 24,
  unfollow: 25,
  request: 26,
  cancel: 27,
  busy: 28,
  gone: 29,
  prove: 30,
  challenge: 31,
  answer: 32,
  askBudget: 33,
  grantBudget: 34,
} as const;

/** Length (4) and type (1). */
export const FRAME_HEAD_BYTES = 5;
/** Request id (4) and chunk index (4). */
export const CHUNK_HEAD_BYTES = 8;
/** Largest payload of a control frame: 1024 hashes, the bitmap of a 1 TiB blob, and as much again. */
export const CONTROL_BYTES_MAX = 256 * 1024;
/** A stranger may make us keep no more than this. */
export const HELLO_BYTES_MAX = 2048;

/** Enough that no two connections ever have the same. */
export const NONCE_BYTES = 16;

const MAGIC = 'SHOAL';
export const PROTOCOL_VERSION_MIN = 1;
export const PROTOCOL_VERSION_MAX = 1;

export interface Hello {
  readonly versionMin: number;
  readonly versionMax: number;
  /** Where the sender can be dialled. */
  readonly self: string;
  readonly zone: string;
  readonly nodeName: string;
  /** Chosen by the sender for this connection: proofs that it is given are only good on it. */
  readonly nonce: Uint8Array;
  readonly role: NodeRole;
}

export function encodeHello(hello: Hello): Buffer {
  const writer = new ByteWriter();
  writer.u32(0).u8(FrameType.hello).raw(Buffer.from(MAGIC)).u8(hello.versionMin).u8(hello.versionMax);
  writer.string(hello.self).string(hello.zone).string(hello.nodeName);
  writer.u16(hello.nonce.length).raw(hello.nonce).u8(hello.role);
  writer.patchU32(0, writer.length - FRAME_HEAD_BYTES);
  return writer.finish();
}

/** @throws PeerProtocol */
export function parseHello(payload: Buffer): Hello {
  const reader = new ByteReader(payload);
  if (Buffer.from(reader.raw(MAGIC.length)).toString('latin1') !== MAGIC)
    throw protocolError('it does not speak this protocol');
  const hello = {
    versionMin: reader.u8(),
    versionMax: reader.u8(),
    self: reader.string(),
    zone: reader.string(),
    nodeName: reader.string(),
    nonce: reader.raw(reader.u16()),
    role: roleOf(reader.u8()),
  };
  if (hello.nonce.length !== NONCE_BYTES)
    throw protocolError(`a nonce of ${hello.nonce.length} bytes, ${NONCE_BYTES} wanted`);
  // What a later version adds at the end is not ours to understand.
  return hello;
}

function roleOf(value: number): NodeRole {
  return Object.values(NodeRole).find((role) => role === value) ?? NodeRole.Agent;
}

/** The highest version that both sides speak. @throws PeerProtocol */
export function agreeOnVersion(theirs: Hello): number {
  const version = Math.min(PROTOCOL_VERSION_MAX, theirs.versionMax);
  if (version < Math.max(PROTOCOL_VERSION_MIN, theirs.versionMin))
    throw protocolError(`it speaks versions ${theirs.versionMin} to ${theirs.versionMax} of the protocol`);
  return version;
}

/** What precedes the bytes of a chunk on the wire. */
export function encodeChunkHead(requestId: number, chunk: number, lengthBytes: number): Buffer {
  const head = Buffer.allocUnsafe(FRAME_HEAD_BYTES + CHUNK_HEAD_BYTES);
  writeChunkHead(head, { requestId, chunk, lengthBytes });
  return head;
}

/** Where a chunk is read to in order to be sent: what comes before leaves room for the head, and keeps the bytes aligned. */
export const CHUNK_ROOM_BYTES = 64;

/** Makes the frame of the `lengthBytes` that lie at `CHUNK_ROOM_BYTES`: one piece, so that one write sends it. */
export function frameChunk(buffer: Buffer, requestId: number, chunk: number, lengthBytes: number): Buffer {
  const start = CHUNK_ROOM_BYTES - FRAME_HEAD_BYTES - CHUNK_HEAD_BYTES;
  const frame = buffer.subarray(start, CHUNK_ROOM_BYTES + lengthBytes);
  writeChunkHead(frame, { requestId, chunk, lengthBytes });
  return frame;
}

function writeChunkHead(
  frame: Buffer,
  { requestId, chunk, lengthBytes }: { requestId: number; chunk: number; lengthBytes: number },
): void {
  frame.writeUInt32BE(CHUNK_HEAD_BYTES + lengthBytes, 0);
  frame.writeUInt8(FrameType.chunk, 4);
  frame.writeUInt32BE(requestId, 5);
  frame.writeUInt32BE(chunk, 9);
}

export const CHUNK_PAYLOAD_BYTES_MAX = CHUNK_HEAD_BYTES + CHUNK_SIZE_BYTES;
