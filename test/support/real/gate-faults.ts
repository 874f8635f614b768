/** What a path of the registry API is about. Uploads are apart from blobs, so that pushes do not count as reads. */
export type PathClass = 'ping' | 'manifest' | 'blob' | 'upload' | 'token' | 'other';

export type Fault =
  /** Any status; 429 and 503 take a Retry-After. */
  | {
      readonly kind: 'status';
      readonly status: number;
      readonly retryAfterSeconds?: number;
      readonly body?: string;
    }
  /** Cuts the connection after that many bytes of the body. */
  | { readonly kind: 'truncate'; readonly afterBytes: number }
  /** Turns over the byte at that offset of the content (of the whole content, also in an answer to a Range). */
  | { readonly kind: 'wrong-byte'; readonly at: number }
  /** Adds this to Content-Length; the body is cut or the connection closed early accordingly. */
  | { readonly kind: 'wrong-length'; readonly byBytes: number }
  /** Falls silent, before the answer or within the body; the connection stays open. */
  | { readonly kind: 'hang'; readonly afterBytes?: number }
  | { readonly kind: 'slow'; readonly rateBytesPerSecond: number }
  /** 307 to the same path at another place, such as `http://127.0.0.1:5001`. */
  | { readonly kind: 'redirect'; readonly to: string }
  /** Answers with a manifest of this many bytes, all of it a JSON string. */
  | { readonly kind: 'huge-manifest'; readonly sizeBytes: number }
  /** Answers 200 with this body instead of the content. */
  | { readonly kind: 'replace'; readonly body: string; readonly contentType?: string }
  /** Closes the connection without an answer. */
  | { readonly kind: 'drop' }
  /** All tokens given out so far end now; then the request goes its normal way. */
  | { readonly kind: 'expire-tokens' };

export interface FaultRule {
  readonly fault: Fault;
  /** Default: all classes but token. */
  readonly class?: PathClass;
  /** Default: GET and HEAD. */
  readonly methods?: readonly string[];
  /** The path must contain it, such as a digest. */
  readonly path?: string;
  /** Lets this many matching requests pass first. Default 0. */
  readonly after?: number;
  /** Ends after this many. Default: never. */
  readonly times?: number;
}

export interface InjectedFault {
  /** How often the fault has struck. */
  hits(): number;
  remove(): void;
}

/** The rules in force; the first that matches and is due strikes. */
export class FaultTable {
  readonly #rules = new Set<{ readonly rule: FaultRule; matched: number; hits: number }>();

  inject(rule: FaultRule): InjectedFault {
    const entry = { rule, matched: 0, hits: 0 };
    this.#rules.add(entry);
    return { hits: () => entry.hits, remove: () => void this.#rules.delete(entry) };
  }

  clear(): void {
    this.#rules.clear();
  }

  next(pathClass: PathClass, method: string, path: string): Fault | undefined {
    for (const entry of this.#rules) {
      if (!matches(entry.rule, pathClass, method, path)) continue;
      entry.matched += 1;
      if (entry.matched <= (entry.rule.after ?? 0)) continue;
      if (entry.hits >= (entry.rule.times ?? Number.POSITIVE_INFINITY)) continue;
      entry.hits += 1;
      return entry.rule.fault;
    }
    return undefined;
  }
}

function matches(rule: FaultRule, pathClass: PathClass, method: string, path: string): boolean {
  if (rule.class === undefined ? pathClass === 'token' : rule.class !== pathClass) return false;
  if (!(rule.methods ?? ['GET', 'HEAD']).includes(method)) return false;
  return rule.path === undefined || path.includes(rule.path);
}
