import {
  createReadStream,
  type Dirent,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  type Stats,
} from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Header, type Pack, pack } from 'tar-stream';

const FILE_CHUNK_BYTES = 1 << 20;
/** Files without a time of their own get this one (2026-01-01), so that equal layers have equal digests. */
const DEFAULT_MTIME = new Date(1_767_225_600_000);

/** One tar entry: what goes into the header, and the content of a file. */
export interface LayerEntry {
  readonly name: string;
  /** Default file. */
  readonly type?: NonNullable<Header['type']>;
  /** Default 0644, folders 0755. */
  readonly mode?: number;
  /** Default 0. */
  readonly uid?: number;
  /** Default 0. */
  readonly gid?: number;
  /** Default 2026-01-01. */
  readonly mtime?: Date;
  readonly linkname?: string;
  readonly devmajor?: number;
  readonly devminor?: number;
  /** PAX records, such as `SCHILY.xattr.user.name`. */
  readonly pax?: Readonly<Record<string, string>>;
  readonly content?: Buffer | string | { readonly file: string };
}

export type LayerSource =
  | { readonly entries: readonly LayerEntry[] }
  /** The files below a folder in sorted order, owned by root. Other kinds than file, folder and symlink are left out. */
  | { readonly fromDirectory: string; readonly prefix?: string };

/** The layer as an uncompressed tar stream. */
export function layerTar(source: LayerSource): Readable {
  const tar = pack({ highWaterMark: FILE_CHUNK_BYTES } as never);
  writeEntries(
    tar,
    'entries' in source ? source.entries : directoryEntries(source.fromDirectory, source.prefix ?? ''),
  )
    .then(() => tar.finalize())
    .catch((error: Error) => tar.destroy(error));
  // tar-stream brings its own stream implementation, which pipeline() takes like node's.
  return tar as unknown as Readable;
}

async function writeEntries(tar: Pack, entries: Iterable<LayerEntry>): Promise<void> {
  for (const { content, ...header } of entries) {
    // The published types ask for every member; the packer fills in all but the name.
    const full = { mtime: DEFAULT_MTIME, ...header } as unknown as Header;
    if (content !== undefined && typeof content === 'object' && 'file' in content) {
      await writeFileEntry(tar, full, content.file);
    } else {
      await writeSmallEntry(tar, full, content);
    }
  }
}

function writeSmallEntry(tar: Pack, header: Header, content?: Buffer | string): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error?: Error | null) => (error ? reject(error) : resolve());
    if (content === undefined) tar.entry(header, done);
    else tar.entry(header, content, done);
  });
}

async function writeFileEntry(tar: Pack, header: Header, path: string): Promise<void> {
  const { size } = lstatSync(path);
  // A stream takes a whole chunk of memory for every file, however small.
  if (size <= FILE_CHUNK_BYTES) return writeSmallEntry(tar, { ...header, size }, readFileSync(path));
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const entry = tar.entry({ ...header, size }, (error) => (error ? reject(error) : resolve()));
  await pipeline(
    createReadStream(path, { highWaterMark: FILE_CHUNK_BYTES }),
    entry as unknown as NodeJS.WritableStream,
  );
  await promise;
}

function* directoryEntries(directory: string, prefix: string): Generator<LayerEntry> {
  const children = readdirSync(directory, { withFileTypes: true }).sort(byName);
  for (const child of children) {
    const path = join(directory, child.name);
    const name = join(prefix, child.name);
    const entry = fileSystemEntry(path, name, lstatSync(path));
    if (entry === undefined) continue;
    yield entry;
    if (child.isDirectory()) yield* directoryEntries(path, name);
  }
}

function fileSystemEntry(path: string, name: string, stats: Stats): LayerEntry | undefined {
  const common = { mode: stats.mode & 0o7777, mtime: new Date(Math.floor(stats.mtimeMs / 1000) * 1000) };
  if (stats.isDirectory()) return { ...common, name: `${name}/`, type: 'directory' };
  if (stats.isSymbolicLink()) return { ...common, name, type: 'symlink', linkname: readlinkSync(path) };
  if (stats.isFile()) return { ...common, name, type: 'file', content: { file: path } };
  return undefined;
}

/** By code unit, so that the order does not depend on the locale. */
function byName(a: Dirent, b: Dirent): number {
  return a.name < b.name ? -1 : Number(a.name > b.name);
}
