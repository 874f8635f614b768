import { createHash } from 'node:crypto';
import { ErrorCode, ShoalError } from './errors.ts';

/** `sha256:` and 64 lower-case hex digits. Other algorithms are containerd's to handle. */
export type Digest = `sha256:${string}` & { readonly __brand: 'Digest' };

const DIGEST_PATTERN = /^sha256:[0-9a-f]{64}$/;
const OTHER_ALGORITHM_PATTERN = /^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-zA-Z=_-]{32,}$/;

export function isDigest(text: string): text is Digest {
  return DIGEST_PATTERN.test(text);
}

/** Parses a digest (OCI image spec, descriptor, "Digests"). @throws ManifestInvalid, or Unsupported for other algorithms. */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  const shown = text.slice(0, 100);
  if (OTHER_ALGORITHM_PATTERN.test(text) && !text.startsWith('sha256:'))
    throw new ShoalError(ErrorCode.Unsupported, `Cannot use digest "${shown}": only sha256 is supported`);
  throw new ShoalError(
    ErrorCode.ManifestInvalid,
    `Cannot parse digest "${shown}": "sha256:" and 64 hex digits wanted`,
  );
}

export function digestOf(bytes: Uint8Array | string): Digest {
  return digestFromHex(createHash('sha256').update(bytes).digest('hex'));
}

export function digestFromHex(hex: string): Digest {
  return parseDigest(`sha256:${hex}`);
}

/** The 64 hex digits, as used in file names. */
export function hexOf(digest: Digest): string {
  return digest.slice('sha256:'.length);
}

/** Chain IDs of a list of diff IDs, lowest layer first (OCI image spec, config, "Layer ChainID"). */
export function chainIdsOf(diffIds: readonly Digest[]): Digest[] {
  const chain: Digest[] = [];
  for (const diffId of diffIds) {
    const parent = chain.at(-1);
    chain.push(parent === undefined ? diffId : digestOf(`${parent} ${diffId}`));
  }
  return chain;
}
