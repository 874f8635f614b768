import type { Credentials } from '../registry/origin.ts';

/** How long the credentials of one pull may serve to warm other images, ms. */
export const CREDENTIALS_AGE_MAX_MS = 10 * 60_000;
/** Pairs of namespace and registry; more than pods a node runs would not be used. */
export const CREDENTIALS_MAX = 256;

interface Entry {
  readonly credentials: Credentials;
  readonly rememberedAtMs: number;
}

/**
 * Credentials of pulls that a registry has accepted, for warming further images of the same namespace from the same registry.
 * In memory alone, for ten minutes, and gone at the first refusal.
 */
export class CredentialMemory {
  /** Oldest first. */
  readonly #entries = new Map<string, Entry>();

  get size(): number {
    return this.#entries.size;
  }

  remember(namespace: string, host: string, credentials: Credentials, nowMs: number): void {
    const key = keyOf(namespace, host);
    this.#entries.delete(key);
    this.#entries.set(key, { credentials, rememberedAtMs: nowMs });
    this.expire(nowMs);
  }

  find(namespace: string, host: string, nowMs: number): Credentials | undefined {
    this.expire(nowMs);
    return this.#entries.get(keyOf(namespace, host))?.credentials;
  }

  /** The registry has refused them. */
  drop(namespace: string, host: string): void {
    this.#entries.delete(keyOf(namespace, host));
  }

  clear(): void {
    this.#entries.clear();
  }

  /** To be called from time to time, so that nothing stays in memory for want of a question. */
  expire(nowMs: number): void {
    for (const [key, { rememberedAtMs }] of this.#entries) {
      if (this.#entries.size <= CREDENTIALS_MAX && nowMs - rememberedAtMs < CREDENTIALS_AGE_MAX_MS) break;
      this.#entries.delete(key);
    }
  }
}

/** Neither namespaces nor hosts have blanks. */
function keyOf(namespace: string, host: string): string {
  return `${namespace} ${host}`;
}
