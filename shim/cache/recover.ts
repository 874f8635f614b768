import { readdir, readFile, rm, stat, truncate } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type BlobMeta, parseMeta } from './blob-meta.ts';
import { blobPathsOf, LAYOUT_VERSION } from './blob-path.ts';
import { CachedBlob } from './cached-blob.ts';

/** A sidecar larger than this is not ours: 16 MiB of records describe 800 GB of 2 MiB chunks. */
const META_BYTES_MAX = 16 * 1024 * 1024;

/**
 * Reads every sidecar under `root` and gives the blobs that they describe. What a crash left over (data without
 * sidecar, torn records, names that were given up) is removed. Chunks come back as claimed, not as verified.
 */
export async function recoverBlobs(root: string, chunkSizeBytes: number): Promise<CachedBlob[]> {
  const names = await readdir(join(root, LAYOUT_VERSION), { recursive: true });
  const paths = names.map((name) => join(root, LAYOUT_VERSION, name));
  const blobs: CachedBlob[] = [];
  const known = new Set<string>();
  for (const path of paths.filter((name) => name.endsWith('.meta'))) {
    const blob = await recoverBlob(root, path, chunkSizeBytes);
    if (blob === undefined) await rm(path, { force: true });
    else blobs.push(blob);
    if (blob !== undefined && !blob.adopted) known.add(blob.paths.data);
  }
  for (const path of paths.filter((name) => name.endsWith('.blob')))
    if (!known.has(path)) await rm(path, { force: true });
  return blobs;
}

async function recoverBlob(
  root: string,
  metaPath: string,
  chunkSizeBytes: number,
): Promise<CachedBlob | undefined> {
  const info = await stat(metaPath);
  if (!info.isFile() || info.size > META_BYTES_MAX) return undefined;
  const meta = parseMeta(await readFile(metaPath));
  if (meta === undefined || meta.chunkSizeBytes !== chunkSizeBytes) return undefined;
  const paths = blobPathsOf(root, meta.key);
  if (paths.meta !== metaPath || dirname(metaPath) !== paths.directory) return undefined;
  const holder = await findHolder(meta, paths.data);
  if (holder === undefined) return undefined;
  if (meta.validBytes < info.size) await truncate(metaPath, meta.validBytes);
  return new CachedBlob({
    ...meta,
    paths,
    confirmed: meta.confirmed || holder.linked,
    adoptedPath: holder.adoptedPath,
    metaBytes: meta.validBytes,
    lastUsedMs: info.mtimeMs,
  });
}

interface Holder {
  readonly adoptedPath: string | undefined;
  /** The inode has another name too: it may be somebody else's blob, so it must not be written to. */
  readonly linked: boolean;
}

async function findHolder(meta: BlobMeta, dataPath: string): Promise<Holder | undefined> {
  if (meta.adoptedPath !== undefined && (await isFileOfSize(meta.adoptedPath, meta.sizeBytes)))
    return { adoptedPath: meta.adoptedPath, linked: true };
  const info = await stat(dataPath).catch(() => undefined);
  if (info === undefined || !info.isFile() || meta.adoptedPath !== undefined) return undefined;
  return { adoptedPath: undefined, linked: info.nlink > 1 };
}

export async function isFileOfSize(path: string, sizeBytes: number): Promise<boolean> {
  const info = await stat(path).catch(() => undefined);
  return info?.isFile() === true && info.size === sizeBytes;
}
