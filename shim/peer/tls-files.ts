import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';

/** Paths of PEM files. */
export interface TlsFiles {
  /** Authorities whose certificates peers are believed. */
  readonly ca: string;
  /** This node's certificate, and those between it and the authority. */
  readonly cert: string;
  readonly key: string;
}

/** What the files hold, PEM. */
export interface TlsMaterial {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** Reads the three files and checks that they fit together. @throws ConfigInvalid */
export async function readTlsFiles(files: TlsFiles): Promise<TlsMaterial> {
  const [ca, cert, key] = await Promise.all([readPem(files.ca), readPem(files.cert), readPem(files.key)]);
  const authority = parse('certificate', files.ca, () => new X509Certificate(ca));
  const leaf = parse('certificate', files.cert, () => new X509Certificate(cert));
  const privateKey = parse('private key', files.key, () => createPrivateKey(key));
  if (!authority.ca) throw unusable(files.ca, 'it is no authority’s certificate, that of one wanted');
  if (!leaf.checkPrivateKey(privateKey))
    throw unusable(files.cert, `its key is not the one in "${files.key}"`);
  if (Date.parse(leaf.validTo) < Date.now())
    throw unusable(files.cert, `it ended at ${leaf.validTo}, a valid one wanted`);
  return { ca, cert, key };
}

async function readPem(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw unusable(path, nodeErrorCode(cause) ?? 'unreadable', cause);
  }
}

function parse<T>(what: string, path: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw unusable(path, `no ${what} in PEM format`, cause);
  }
}

function unusable(path: string, state: string, cause?: unknown): ShoalError {
  return new ShoalError(ErrorCode.ConfigInvalid, `Cannot use "${path}" between peers: ${state}`, { cause });
}
