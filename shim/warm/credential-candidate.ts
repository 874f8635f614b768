import { createHash, randomBytes } from 'node:crypto';
import type { Credentials } from '../registry/origin.ts';

/** Something that an image may be read with. */
export interface CredentialCandidate {
  /** Undefined: nothing at all. */
  readonly credentials: Credentials | undefined;
  /** The registry would not have them. */
  readonly onRefused?: () => void;
}

/** Of this process alone, so that the names tell nothing about the secrets. */
const salt = randomBytes(16);

/** Tells whether the same credentials come again, without keeping them. */
export function nameOfCredentials(credentials: Credentials | undefined): string {
  if (credentials === undefined) return 'none';
  const { username, password, auth, identityToken, registryToken } = credentials;
  const parts = [username, password, auth, identityToken, registryToken].map((part) => part ?? null);
  return createHash('sha256').update(salt).update(JSON.stringify(parts)).digest('hex');
}
