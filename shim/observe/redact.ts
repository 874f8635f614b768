/**
 * Blanks what looks like a credential in a line that is about to leave the process. The last line of defence: code
 * must not hand secrets to a logger in the first place.
 */
export function redact(line: string): string {
  const named = patterns.reduce(
    (text, { pattern, replacement }) => text.replaceAll(pattern, replacement),
    line,
  );
  return named.replaceAll(urls, redactUrl);
}

const urls = /\b[a-z][a-z0-9+.-]{0,20}:\/\/[^\s"'\\<>]+/gi;

/** Userinfo may be a password; signed storage URLs carry their signature in the query. */
function redactUrl(url: string): string {
  const question = url.indexOf('?');
  const plain = question < 0 ? url : `${url.slice(0, question)}?${hidden}`;
  return plain.replace(/^([^:]+:\/\/)[^/@]+@/, `$1${hidden}@`);
}

const hidden = '[hidden]';
/** A quote as it stands in text, or escaped inside a JSON string. */
const quote = String.raw`\\*["']?`;
const secretNames = [
  'authorization',
  'proxy-authorization',
  'x-registry-auth',
  'password',
  'passwd',
  'identity_?token',
  'registry_?token',
  'access_?token',
  'refresh_?token',
  'secret',
].join('|');

const patterns: readonly { readonly pattern: RegExp; readonly replacement: string }[] = [
  // Scheme and token, wherever they stand: `Bearer eyJ…`, `Basic dXNlcjpw…`.
  { pattern: /\b(Bearer|Basic)\s+[A-Za-z0-9+/._~=-]{4,}/gi, replacement: `$1 ${hidden}` },
  // A named secret with its value: `"password":"…"`, `password=…`, `authorization: …`.
  {
    pattern: new RegExp(
      String.raw`(${quote}\b(?:${secretNames})${quote}\s*[:=]\s*)(\\*")(?:(?!\2).)*\2`,
      'gi',
    ),
    replacement: `$1$2${hidden}$2`,
  },
  {
    pattern: new RegExp(
      String.raw`(\b(?:${secretNames})${quote}\s*[:=]\s*)(?!\\*["[]|Bearer|Basic)[^\s,;&"'\\}]+`,
      'gi',
    ),
    replacement: `$1${hidden}`,
  },
];
