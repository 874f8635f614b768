import { p2pSecretName, sourceSecretName } from './secret-names.ts';

/**
 * What is known of one namespace, from names alone: which pull secrets its opted-in pods name, and which secrets there
 * are. Changes give the names of the sources that have to be looked at.
 */
export class NamespaceIndex {
  readonly #sourcesOfPod = new Map<string, readonly string[]>();
  readonly #podsOfSource = new Map<string, number>();
  /** When the last pod that named a source went. */
  readonly #unnamedSinceMs = new Map<string, number>();
  readonly #copies = new Set<string>();
  readonly #podsMax: number;
  #podsLeftOut = 0;

  constructor(podsMax: number) {
    this.#podsMax = podsMax;
  }

  /** @param p2pSecrets Those that the pod names for peer-to-peer addresses. */
  setPod(pod: string, p2pSecrets: readonly string[], nowMs: number): string[] {
    const sources = [...new Set(p2pSecrets)].flatMap(copiedFrom);
    const before = this.#sourcesOfPod.get(pod) ?? [];
    if (before.length === 0 && sources.length > 0 && this.#sourcesOfPod.size >= this.#podsMax) {
      this.#podsLeftOut++;
      return [];
    }
    for (const source of sources) this.#count(source, 1, nowMs);
    for (const source of before) this.#count(source, -1, nowMs);
    if (sources.length === 0) this.#sourcesOfPod.delete(pod);
    else this.#sourcesOfPod.set(pod, sources);
    const appeared = sources.filter((source) => !before.includes(source));
    const gone = before.filter((source) => !sources.includes(source));
    return [...appeared, ...gone.filter((source) => !this.#podsOfSource.has(source))];
  }

  removePod(pod: string, nowMs: number): string[] {
    return this.setPod(pod, [], nowMs);
  }

  /** After a secret appeared or changed. */
  setSecret(name: string): string[] {
    const source = copiedFrom(name);
    if (source.length === 0) return this.#interesting(name);
    this.#copies.add(name);
    return source;
  }

  removeSecret(name: string): string[] {
    const source = copiedFrom(name);
    if (source.length === 0) return this.#interesting(name);
    this.#copies.delete(name);
    return source;
  }

  /** Everything that there is to look at. */
  sources(): string[] {
    return [...new Set([...this.#podsOfSource.keys(), ...[...this.#copies].flatMap(copiedFrom)])];
  }

  /**
   * Whether a pod names the source; `until` is set where none does any more and the copy stays until then: the pods of a
   * rollout come and go, and kubelet looks for the secret when it starts the next one.
   */
  naming(
    source: string,
    nowMs: number,
    graceMs: number,
  ): { readonly named: boolean; readonly until?: number } {
    if (this.#podsOfSource.has(source)) return { named: true };
    const sinceMs = this.#unnamedSinceMs.get(source);
    if (sinceMs === undefined) return { named: false };
    if (nowMs - sinceMs < graceMs) return { named: true, until: sinceMs + graceMs };
    this.#unnamedSinceMs.delete(source);
    return { named: false };
  }

  /** Whether a secret of the copy's name was seen. */
  hasCopy(source: string): boolean {
    return this.#copies.has(p2pSecretName(source) ?? '');
  }

  /** Pods that were not counted, because there are more than fit. */
  get podsLeftOut(): number {
    return this.#podsLeftOut;
  }

  #count(source: string, change: 1 | -1, nowMs: number): void {
    const count = (this.#podsOfSource.get(source) ?? 0) + change;
    if (count > 0) {
      this.#podsOfSource.set(source, count);
      this.#unnamedSinceMs.delete(source);
    } else {
      this.#podsOfSource.delete(source);
      this.#unnamedSinceMs.set(source, nowMs);
    }
  }

  #interesting(name: string): string[] {
    return this.#podsOfSource.has(name) || this.hasCopy(name) ? [name] : [];
  }
}

/** A copy of a copy is never made. */
function copiedFrom(name: string): string[] {
  const source = sourceSecretName(name);
  return source === undefined || sourceSecretName(source) !== undefined ? [] : [source];
}
