import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type Digest, digestFromHex } from '../base/digest.ts';
import { cancelled, ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';

/** Hashed between two turns of the event loop, bytes: some milliseconds. */
const READ_BYTES = 1024 * 1024;

export function digestMismatch(which: 'layer' | 'diff', found: Digest, wanted: Digest): ShoalError {
  const what = which === 'layer' ? 'its digest' : 'the digest of its tar';
  return new ShoalError(ErrorCode.DigestMismatch, `Cannot unpack layer "${wanted}": ${what} is ${found}`, {
    facts: { which, found, wanted },
  });
}

/** Hashes a layer file where nobody else has done it. @throws DigestMismatch, UnpackFailed, Cancelled */
export async function checkLayerFile(path: string, wanted: Digest, signal: AbortSignal): Promise<void> {
  const hash = createHash('sha256');
  try {
    for await (const bytes of createReadStream(path, { highWaterMark: READ_BYTES, signal }))
      hash.update(bytes);
  } catch (error) {
    if (signal.aborted) throw cancelled(signal, `check layer "${wanted}"`);
    const code = nodeErrorCode(error) ?? 'unknown error';
    throw new ShoalError(ErrorCode.UnpackFailed, `Cannot read layer file "${path}": ${code}`, {
      cause: error,
      facts: { path, errno: code },
    });
  }
  const found = digestFromHex(hash.digest('hex'));
  if (found !== wanted) throw digestMismatch('layer', found, wanted);
}
