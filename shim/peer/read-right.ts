import { createHash, createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import type { BlobKey } from '../base/blob-key.ts';
import type { PeerId } from '../swarm/messages.ts';

/** How one pull came to read a blob at its registry. */
export interface ReadRight {
  /** The registry gave it to a request without any credentials: everybody may have it. */
  readonly isAnonymous: boolean;
  /** Follows from documents that only those could read who may read the blob. */
  readonly secret: Uint8Array;
}

const SECRET_BYTES = 32;
const HASH = 'sha256';

/**
 * The right that comes with an image: `documents` are the bytes of its manifest and of its config, as read at the registry.
 * Both are needed: a manifest can be put together again from digests and sizes, which are no secret, a config cannot.
 */
export function readRightOf(documents: readonly Uint8Array[], isAnonymous: boolean): ReadRight {
  const secret = derive(Buffer.concat(documents.flatMap(withLength)), 'shoal image');
  return { isAnonymous, secret };
}

/** What is left of a right for one blob: it proves nothing about the image's other blobs. */
export function blobSecretOf(right: ReadRight, key: BlobKey): Uint8Array {
  return derive(right.secret, `shoal blob\0${key.host}\0${key.digest}`);
}

/** The two ends of one connection, as both see them. */
export interface Session {
  readonly asker: PeerId;
  readonly holder: PeerId;
  readonly askerNonce: Uint8Array;
  readonly holderNonce: Uint8Array;
  /** Of the TLS connection; empty in plain text. */
  readonly binding: Uint8Array;
}

/** Shows that the asker has the blob's secret; good for this blob between these two on this connection. */
export function proofBySecret(secret: Uint8Array, key: BlobKey, session: Session): Buffer {
  return createHmac(HASH, secret)
    .update(transcript('secret', key, session))
    .digest();
}

/** Shows that the asker has these pieces of the blob; `nonce` is of the challenge that chose them. */
export function proofByPieces(
  pieces: readonly Uint8Array[],
  nonce: Uint8Array,
  key: BlobKey,
  session: Session,
): Buffer {
  const hash = createHash(HASH);
  for (const piece of pieces) for (const part of withLength(piece)) hash.update(part);
  return createHmac(HASH, hash.digest())
    .update(transcript('pieces', key, session))
    .update(nonce)
    .digest();
}

export function isSameProof(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && timingSafeEqual(one, other);
}

function transcript(kind: string, key: BlobKey, session: Session): Buffer {
  const { asker, holder, askerNonce, holderNonce, binding } = session;
  const texts = ['shoal proof of the right to read', kind, asker, holder, key.host, key.digest];
  return Buffer.concat(
    [...texts.map((text) => Buffer.from(text)), askerNonce, holderNonce, binding].flatMap(withLength),
  );
}

/** Lengths go before parts, so that no two lists of parts look the same. */
function withLength(part: Uint8Array): Uint8Array[] {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(part.length);
  return [length, part];
}

function derive(from: Uint8Array, purpose: string): Uint8Array {
  return new Uint8Array(hkdfSync(HASH, from, new Uint8Array(0), purpose, SECRET_BYTES));
}
