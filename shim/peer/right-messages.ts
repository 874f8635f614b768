import type { BlobKey } from '../base/blob-key.ts';
import { digestFromHex, hexOf } from '../base/digest.ts';
import { ByteReader, ByteWriter, protocolError } from './byte-codec.ts';
import { FRAME_HEAD_BYTES, FrameType, NONCE_BYTES } from './frame.ts';

/** Proofs in one message: images of one node that share a blob. Who has more shows the newest. */
export const PROOFS_MAX = 4;
/** Pieces of one challenge. */
export const PIECES_MAX = 4;
/**
 * Pieces lie on a grid of this many bytes. So large that nobody can learn the bytes of a piece by asking for its proof and
 * guessing what they were: all of it would have to be guessed at once.
 */
export const PIECE_BYTES = 32 * 1024;
const PROOF_BYTES = 32;
const DIGEST_BYTES = 32;

/** What two nodes say to each other about the right to read; never comes to the swarm's core. */
export type RightMessage =
  /** To a holder, before the first question: I have read what these follow from. */
  | { readonly kind: 'prove'; readonly key: BlobKey; readonly proofs: readonly Uint8Array[] }
  /** Answer to who has proven nothing: read these pieces at the registry. */
  | {
      readonly kind: 'challenge';
      readonly key: BlobKey;
      readonly nonce: Uint8Array;
      /** Place in the blob, in units of PIECE_BYTES. */
      readonly pieces: readonly number[];
    }
  | {
      readonly kind: 'answer';
      readonly key: BlobKey;
      readonly nonce: Uint8Array;
      readonly proof: Uint8Array;
    };

export function isRightFrame(type: number): boolean {
  return type === FrameType.prove || type === FrameType.challenge || type === FrameType.answer;
}

export function encodeRightMessage(message: RightMessage): Buffer {
  const writer = new ByteWriter();
  writer.u32(0).u8(FrameType[message.kind]);
  writer.raw(Buffer.from(hexOf(message.key.digest), 'hex')).string(message.key.host);
  switch (message.kind) {
    case 'prove':
      writer.u8(message.proofs.length);
      for (const proof of message.proofs) writer.raw(proof);
      break;
    case 'challenge':
      writer.raw(message.nonce).u8(message.pieces.length);
      for (const piece of message.pieces) writer.u32(piece);
      break;
    case 'answer':
      writer.raw(message.nonce).raw(message.proof);
      break;
    default:
      message satisfies never;
  }
  writer.patchU32(0, writer.length - FRAME_HEAD_BYTES);
  return writer.finish();
}

/** @throws PeerProtocol; never makes more than the payload says. */
export function parseRightMessage(type: number, payload: Buffer): RightMessage {
  const reader = new ByteReader(payload);
  const message = readMessage(type, reader);
  reader.end();
  return message;
}

function readMessage(type: number, reader: ByteReader): RightMessage {
  const digest = digestFromHex(Buffer.from(reader.raw(DIGEST_BYTES)).toString('hex'));
  const key = { digest, host: reader.string() };
  if (type === FrameType.prove)
    return { kind: 'prove', key, proofs: readList(reader, PROOFS_MAX, () => reader.raw(PROOF_BYTES)) };
  const nonce = reader.raw(NONCE_BYTES);
  if (type === FrameType.challenge)
    return { kind: 'challenge', key, nonce, pieces: readList(reader, PIECES_MAX, () => reader.u32()) };
  return { kind: 'answer', key, nonce, proof: reader.raw(PROOF_BYTES) };
}

function readList<T>(reader: ByteReader, max: number, read: () => T): T[] {
  const count = reader.u8();
  if (count === 0 || count > max) throw protocolError(`a list of ${count}, 1 to ${max} wanted`);
  return Array.from({ length: count }, read);
}
