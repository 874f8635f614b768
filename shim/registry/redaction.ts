/** Shortest text treated as a secret, characters: replacing shorter ones would only garble messages. */
const SECRET_LENGTH_MIN = 4;
/** Most secrets remembered for one origin: its credentials and the tokens of its live hosts. */
const SECRETS_MAX = 256;

/** Takes what must not be seen out of text that others wrote and that may echo what we sent. */
export class Redactor {
  readonly #secrets = new Set<string>();

  add(...secrets: readonly string[]): void {
    for (const secret of secrets) {
      if (secret.length < SECRET_LENGTH_MIN) continue;
      this.#secrets.add(secret);
      this.#secrets.add(encodeURIComponent(secret));
    }
    for (const oldest of this.#secrets) {
      if (this.#secrets.size <= SECRETS_MAX) break;
      this.#secrets.delete(oldest);
    }
  }

  /** One line of at most `lengthMax` printable characters without secrets, URL queries and URL logins. */
  clean(text: string, lengthMax: number): string {
    let cleaned = text;
    for (const secret of this.#secrets) cleaned = cleaned.replaceAll(secret, '…');
    return cleaned
      .replace(/(https?:\/\/)[^\s/@"']*@/gi, '$1')
      .replace(/(https?:\/\/[^\s?#"']*)[?#][^\s"']*/gi, '$1')
      .replace(/\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}/gi, '$1 …')
      .replace(/[^\x20-\x7e…]+/g, ' ')
      .trim()
      .slice(0, lengthMax);
  }
}
