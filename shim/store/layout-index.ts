import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Descriptor } from '../base/descriptor.ts';
import { writeFileDurably } from '../base/durable-file.ts';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';

/** A layout with more images than this is refused: its index would no longer be a small file. */
const IMAGES_MAX = 10_000;

const REF_NAME = 'org.opencontainers.image.ref.name';
/** Annotation of an index entry: which (registry host, layer digest) pairs were read for it. */
const SOURCES = 'io.shoal.sources';

interface IndexEntry {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface LayoutImage {
  readonly names: readonly string[];
  readonly target: Descriptor;
  /** Blob keys of the image's layers. */
  readonly sources: readonly string[];
}

/** `index.json` of an image layout: the images by name. One process writes it. */
export class LayoutIndex {
  readonly #path: string;
  #entries: readonly IndexEntry[];
  #writing: Promise<void> = Promise.resolve();

  private constructor(path: string, entries: readonly IndexEntry[]) {
    this.#path = path;
    this.#entries = entries;
  }

  /** Reads the index, or writes an empty one. @throws StoreFailed when it is not an OCI index. */
  static async open(directory: string): Promise<LayoutIndex> {
    const path = join(directory, 'index.json');
    await writeFileDurably(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}\n');
    const index = new LayoutIndex(path, parseEntries(path, await readIfThere(path)));
    await index.#write();
    return index;
  }

  hasSource(blobKeyId: string): boolean {
    return this.#entries.some((entry) => entry.annotations?.[SOURCES]?.split(' ').includes(blobKeyId));
  }

  hasName(name: string): boolean {
    return this.#entries.some((entry) => entry.annotations?.[REF_NAME] === name);
  }

  /** Adds one image under each of its names, replacing what bore the name before. Durable when it resolves. */
  async add(image: LayoutImage): Promise<void> {
    const kept = this.#entries.filter((entry) => !image.names.includes(entry.annotations?.[REF_NAME] ?? ''));
    const added = image.names.map((name) => entryOf(image, name));
    if (kept.length + added.length > IMAGES_MAX)
      throw new ShoalError(
        ErrorCode.LimitExceeded,
        `Cannot add image "${image.names[0]}": the layout holds ${kept.length} images, at most ${IMAGES_MAX} wanted`,
      );
    this.#entries = [...kept, ...added];
    this.#writing = this.#writing.catch(() => undefined).then(() => this.#write());
    await this.#writing;
  }

  async #write(): Promise<void> {
    const document = {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: this.#entries,
    };
    await writeFileDurably(this.#path, `${JSON.stringify(document, null, 2)}\n`);
  }
}

function entryOf(image: LayoutImage, name: string): IndexEntry {
  return {
    mediaType: image.target.mediaType,
    digest: image.target.digest,
    size: image.target.sizeBytes,
    annotations: { [REF_NAME]: name, [SOURCES]: image.sources.join(' ') },
  };
}

function parseEntries(path: string, text: string | undefined): readonly IndexEntry[] {
  if (text === undefined) return [];
  try {
    const parsed: unknown = JSON.parse(text);
    if (
      typeof parsed === 'object' &&
      parsed !== null &&
      'manifests' in parsed &&
      Array.isArray(parsed.manifests)
    )
      return parsed.manifests;
  } catch (cause) {
    throw new ShoalError(ErrorCode.StoreFailed, `Cannot read image index "${path}": it is not JSON`, {
      cause,
    });
  }
  throw new ShoalError(
    ErrorCode.StoreFailed,
    `Cannot read image index "${path}": it has no list of manifests`,
  );
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
