/** One way in which a registry offers to be authenticated to (RFC 9110, 11.6.1). */
export interface Challenge {
  readonly scheme: 'bearer' | 'basic';
  readonly parameters: ReadonlyMap<string, string>;
}

/** Longest challenge header read, characters. */
const CHALLENGE_LENGTH_MAX = 8192;
/** Most challenges and parameters read from one header. */
const PARTS_MAX = 64;

const SCHEME_PATTERN = /[\s,]*([!#$%&'*+.^_`|~\w-]+)(?=[\s,]|$)(?!\s*=)/y;
const PARAMETER_PATTERN = /[\s,]*([!#$%&'*+.^_`|~\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/y;

/**
 * Reads every Bearer and Basic challenge of the given `WWW-Authenticate` headers, Bearer first, others left out. One
 * header may hold several challenges, and quoted values may hold commas. Reading stops at what is not understood.
 */
export function parseChallenges(headers: readonly string[]): Challenge[] {
  const found = headers.flatMap((header) => parseHeader(header.slice(0, CHALLENGE_LENGTH_MAX)));
  return [
    ...found.filter((each) => each.scheme === 'bearer'),
    ...found.filter((each) => each.scheme === 'basic'),
  ];
}

function parseHeader(header: string): Challenge[] {
  const challenges: Challenge[] = [];
  let parameters = new Map<string, string>();
  let at = 0;
  for (let part = 0; part < PARTS_MAX; part++) {
    const parameter = matchAt(PARAMETER_PATTERN, header, at);
    const scheme = parameter === null ? matchAt(SCHEME_PATTERN, header, at) : null;
    if (parameter !== null) {
      const [text, name = '', quoted, token] = parameter;
      const key = name.toLowerCase();
      if (!parameters.has(key)) parameters.set(key, quoted?.replace(/\\(.)/g, '$1') ?? token ?? '');
      at += text.length;
    } else if (scheme !== null) {
      parameters = new Map();
      const name = scheme[1]?.toLowerCase();
      if (name === 'bearer' || name === 'basic') challenges.push({ scheme: name, parameters });
      at += scheme[0].length;
    } else break;
  }
  return challenges;
}

function matchAt(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at;
  return pattern.exec(text);
}
