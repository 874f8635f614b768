import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { ErrorCode, nodeErrorCode, ShoalError } from '../shim/base/errors.ts';
import { checkKeyPair, type KeyPair } from './key-pair.ts';

export interface CertificateFiles {
  readonly certificatePath: string;
  readonly keyPath: string;
}

/** A certificate and a key are a few kilobytes; so is a chain of some. */
const FILE_BYTES_MAX = 256 << 10;

/** @throws ShoalError ConfigInvalid where a file cannot be read or the two are no pair. */
export async function readKeyPair({ certificatePath, keyPath }: CertificateFiles): Promise<KeyPair> {
  const keyPair = { certificatePem: await readPem(certificatePath), keyPem: await readPem(keyPath) };
  checkKeyPair(keyPair);
  return keyPair;
}

/**
 * Looks at the files again and again, and hands on what is new and whole, until the signal is aborted. Reading beats being
 * told: a mounted Secret changes by a symbolic link two directories up, and both files at different moments elsewhere.
 */
export async function watchKeyPair(
  files: CertificateFiles,
  use: (keyPair: KeyPair) => Promise<void>,
  options: { readonly pollMs: number; readonly logger: Logger; readonly signal: AbortSignal },
): Promise<void> {
  const { pollMs, logger, signal } = options;
  let inUse = '';
  while (!signal.aborted) {
    try {
      const keyPair = await readKeyPair(files);
      const text = keyPair.certificatePem + keyPair.keyPem;
      if (text !== inUse) {
        await use(keyPair);
        inUse = text;
        logger.info('certificate loaded');
      }
    } catch (error) {
      logger.warn({ err: error }, 'certificate not loaded: the one in use stays');
    }
    await sleep(pollMs, undefined, { signal }).catch(() => undefined);
  }
}

async function readPem(path: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    const found = nodeErrorCode(cause) ?? 'it cannot be read';
    throw new ShoalError(ErrorCode.ConfigInvalid, `Cannot read "${path}": ${found}`, { cause });
  }
  if (bytes.length <= FILE_BYTES_MAX) return bytes.toString('utf8');
  const message = `Cannot read "${path}": it has ${bytes.length} bytes, at most ${FILE_BYTES_MAX} are allowed`;
  throw new ShoalError(ErrorCode.ConfigInvalid, message);
}
