import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { isDigest } from '../base/digest.ts';
import type { KeptRight } from './read-rights.ts';

/** Pulls come in bursts; a restart that loses the last second only costs a few small reads at the registry. */
const SAVE_DELAY_MS = 1_000;
/** Larger than what is written for every blob that is remembered. */
const FILE_BYTES_MAX = 16 * 1024 * 1024;
/** The owner's alone: who reads it may read the blobs beside it as well, but has no need to. */
const MODE = 0o600;
const VERSION = 1;

/**
 * Rights across restarts, beside the blobs that they are for. Without the file everything still works: peers are then
 * asked for pieces of the blobs instead.
 */
export class RightsFile {
  readonly #path: string;
  /** What the file held when it was opened. */
  readonly loaded: readonly KeptRight[];
  #timer: NodeJS.Timeout | undefined;
  #next: (() => readonly KeptRight[]) | undefined;
  #saving: Promise<void> = Promise.resolve();

  /** A file that is missing or makes no sense counts as empty. */
  static async open(path: string): Promise<RightsFile> {
    const text = await readFile(path, 'utf8').catch(() => '');
    return new RightsFile(path, text.length > FILE_BYTES_MAX ? [] : parse(text));
  }

  private constructor(path: string, loaded: readonly KeptRight[]) {
    this.#path = path;
    this.loaded = loaded;
  }

  /** Writes what `rights` gives, soon. */
  save(rights: () => readonly KeptRight[]): void {
    this.#next = rights;
    this.#timer ??= setTimeout(() => this.#write(), SAVE_DELAY_MS);
    this.#timer.unref();
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#write();
    await this.#saving;
  }

  #write(): void {
    this.#timer = undefined;
    const rights = this.#next;
    this.#next = undefined;
    if (rights === undefined) return;
    const text = format(rights());
    this.#saving = this.#saving.then(() => replace(this.#path, text)).catch(() => undefined);
  }
}

async function replace(path: string, text: string): Promise<void> {
  const partial = `${path}.tmp`;
  await rm(partial, { force: true });
  await writeFile(partial, text, { mode: MODE });
  await rename(partial, path);
}

function format(rights: readonly KeptRight[]): string {
  const rows = rights.map(({ key, secrets, anonymousUntilMs }) => ({
    host: key.host,
    digest: key.digest,
    secrets: secrets.map((secret) => Buffer.from(secret).toString('base64')),
    anonymousUntilMs,
  }));
  return JSON.stringify({ version: VERSION, rights: rows });
}

function parse(text: string): KeptRight[] {
  try {
    const { version, rights } = JSON.parse(text) as { version: unknown; rights: unknown[] };
    return version === VERSION ? rights.flatMap(parseRow) : [];
  } catch {
    return [];
  }
}

function parseRow(row: unknown): KeptRight[] {
  const { host, digest, secrets, anonymousUntilMs } = row as Record<string, unknown>;
  if (typeof host !== 'string' || typeof digest !== 'string' || !isDigest(digest)) return [];
  if (!Array.isArray(secrets) || typeof anonymousUntilMs !== 'number') return [];
  const bytes = secrets.map((secret) => Uint8Array.from(Buffer.from(String(secret), 'base64')));
  return [{ key: { host, digest }, secrets: bytes, anonymousUntilMs }];
}
