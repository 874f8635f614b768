/** This long after it was tried with TLS, a host is tried with it again, ms. */
const LIFE_MS = 60_000;
/** Only hosts of this machine may answer without TLS: a few. */
const HOSTS_MAX = 64;

/** Registries of this machine that answered TLS with plain HTTP a moment ago: each pull would else begin with a connection in vain. */
export class PlainHosts {
  readonly #untilMs = new Map<string, number>();

  has(host: string, nowMs: number): boolean {
    const untilMs = this.#untilMs.get(host) ?? 0;
    if (nowMs < untilMs) return true;
    this.#untilMs.delete(host);
    return false;
  }

  note(host: string, nowMs: number): void {
    const oldest = this.#untilMs.keys().next().value;
    if (oldest !== undefined && this.#untilMs.size >= HOSTS_MAX) this.#untilMs.delete(oldest);
    this.#untilMs.delete(host);
    this.#untilMs.set(host, nowMs + LIFE_MS);
  }

  forget(host: string): void {
    this.#untilMs.delete(host);
  }
}
