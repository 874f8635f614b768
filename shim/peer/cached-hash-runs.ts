import type { CachedBlob } from '../cache/cached-blob.ts';
import type { HashRun } from '../swarm/messages.ts';

/** Hashes of the chosen chunks, consecutive ones together. */
export function hashRunsOf(blob: CachedBlob, isChosen: (chunk: number) => boolean): HashRun[] {
  const runs: { firstChunk: number; hashes: Uint8Array[] }[] = [];
  for (let chunk = 0; chunk < blob.chunkCount; chunk++) {
    const hash = isChosen(chunk) ? blob.hashOf(chunk) : undefined;
    if (hash === undefined) continue;
    const last = runs.at(-1);
    if (last !== undefined && last.firstChunk + last.hashes.length === chunk) last.hashes.push(hash);
    else runs.push({ firstChunk: chunk, hashes: [hash] });
  }
  return runs;
}
