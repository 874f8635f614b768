import { CHUNK_HASH_BYTES } from './limits.ts';
import type { ChunkHash, ChunkRun, HashRun } from './messages.ts';

/** Packs ascending chunk indexes into runs. */
export function chunkRunsOf(chunks: Iterable<number>): ChunkRun[] {
  const runs: { firstChunk: number; chunkCount: number }[] = [];
  for (const chunk of chunks) {
    const last = runs.at(-1);
    if (last !== undefined && last.firstChunk + last.chunkCount === chunk) last.chunkCount++;
    else runs.push({ firstChunk: chunk, chunkCount: 1 });
  }
  return runs;
}

/** Packs the known hashes of `chunks` into runs, at most `countMax` hashes. */
export function hashRunsOf(
  chunks: Iterable<number>,
  hashes: readonly (ChunkHash | undefined)[],
  countMax: number,
): HashRun[] {
  const runs: { firstChunk: number; hashes: ChunkHash[] }[] = [];
  let count = 0;
  for (const chunk of chunks) {
    const hash = hashes[chunk];
    if (hash === undefined) continue;
    if (++count > countMax) break;
    const last = runs.at(-1);
    if (last !== undefined && last.firstChunk + last.hashes.length === chunk) last.hashes.push(hash);
    else runs.push({ firstChunk: chunk, hashes: [hash] });
  }
  return runs;
}

/** Visits the well-formed hashes of chunks that the blob has. Runs may come from anybody. */
export function forEachHash(
  runs: readonly HashRun[],
  chunkCount: number,
  visit: (chunk: number, hash: ChunkHash) => void,
): void {
  for (const run of runs) {
    if (!Number.isInteger(run.firstChunk) || run.firstChunk < 0) continue;
    let chunk = run.firstChunk;
    for (const hash of run.hashes) {
      if (chunk >= chunkCount) break;
      if (hash.length === CHUNK_HASH_BYTES) visit(chunk, hash);
      chunk++;
    }
  }
}

/** The parts of `runs` that lie within the blob, at most `countMax`. Runs may come from anybody. */
export function runsWithin(runs: readonly ChunkRun[], chunkCount: number, countMax: number): ChunkRun[] {
  const within: ChunkRun[] = [];
  for (const { firstChunk, chunkCount: length } of runs) {
    if (within.length === countMax) break;
    if (!Number.isInteger(firstChunk) || !Number.isInteger(length)) continue;
    if (firstChunk < 0 || length < 1 || firstChunk >= chunkCount) continue;
    within.push({ firstChunk, chunkCount: Math.min(length, chunkCount - firstChunk) });
  }
  return within;
}

export function sameHash(left: ChunkHash, right: ChunkHash): boolean {
  if (left === right) return true;
  if (left.length !== right.length) return false;
  for (let index = 0; index < left.length; index++) if (left[index] !== right[index]) return false;
  return true;
}
