import { PIECE_BYTES } from './right-messages.ts';

/** A piece of a blob that a challenge may be about. */
export interface Piece {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** The piece at this place of the grid; undefined where there is none, or none that is long enough to prove anything. */
export function pieceAt(index: number, blobBytes: number): Piece | undefined {
  const offsetBytes = index * PIECE_BYTES;
  const lengthBytes = Math.min(PIECE_BYTES, blobBytes - offsetBytes);
  if (lengthBytes <= 0) return undefined;
  // A short end could be guessed. A blob that is shorter as a whole has its digest told to everybody anyway.
  if (lengthBytes < PIECE_BYTES && index > 0) return undefined;
  return { offsetBytes, lengthBytes };
}

/** Pieces at random places of the chunks that are held; fewer than `count`, or none, when too little is held. */
export function choosePieces(options: {
  readonly count: number;
  readonly blobBytes: number;
  readonly chunkBytes: number;
  readonly isHeld: (chunk: number) => boolean;
  /** Uniform in `[0, limit)`, and not to be foreseen. */
  readonly randomBelow: (limit: number) => number;
}): number[] {
  const { count, blobBytes, chunkBytes, isHeld, randomBelow } = options;
  const perChunk = Math.ceil(chunkBytes / PIECE_BYTES);
  const held: number[] = [];
  for (let chunk = 0; chunk * chunkBytes < blobBytes; chunk++)
    if (isHeld(chunk) && pieceAt(chunk * perChunk, blobBytes) !== undefined) held.push(chunk);
  const pieces = new Set<number>();
  // A draw may hit a piece twice, or the end of the blob; some more draws make up for that.
  for (let draw = 0; held.length > 0 && draw < count * 4 && pieces.size < count; draw++) {
    const chunk = held[randomBelow(held.length)] ?? 0;
    const piece = chunk * perChunk + randomBelow(perChunk);
    if (pieceAt(piece, blobBytes) !== undefined) pieces.add(piece);
  }
  return [...pieces];
}
