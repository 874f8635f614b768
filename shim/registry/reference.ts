import { type Digest, isDigest } from '../base/digest.ts';
import { ErrorCode, ShoalError } from '../base/errors.ts';

/** An image reference after Docker's normalisation. It has a tag or a digest, never both. */
export interface Reference {
  /** Registry host with port if one was given; `docker.io` for Docker Hub. The host half of the unit of sharing. */
  readonly host: string;
  readonly repository: string;
  readonly tag?: string;
  readonly digest?: Digest;
}

/** Longest `host/repository` that the reference grammar allows, characters. */
const NAME_LENGTH_MAX = 255;
/** Longest text looked at: name, tag and digest at their own limits fit twice over. */
const REFERENCE_LENGTH_MAX = 1024;

const DEFAULT_HOST = 'docker.io';
const LEGACY_DEFAULT_HOST = 'index.docker.io';
const OFFICIAL_PREFIX = 'library/';

const HOST_LABEL = '(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)';
const HOST_PATTERN = new RegExp(
  `^(?:${HOST_LABEL}(?:\\.${HOST_LABEL})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]{1,5})?$`,
);
const REPOSITORY_PATTERN =
  /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/;
const TAG_PATTERN = /^\w[\w.-]{0,127}$/;
const DIGEST_PATTERN = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;
const BARE_ID_PATTERN = /^[a-f0-9]{64}$/;

/**
 * Parses what a user or kubelet wrote, by the rules of the distribution project's reference grammar and Docker's short
 * names: `nginx` is `docker.io/library/nginx:latest`. Of a tag and a digest the digest counts, as in containerd.
 * @throws InvalidReference; Unsupported for digests other than sha256.
 */
export function parseReference(text: string): Reference {
  if (text.length > REFERENCE_LENGTH_MAX)
    throw invalid(text, `${text.length} characters, at most 1024 wanted`);
  if (BARE_ID_PATTERN.test(text)) throw invalid(text, 'this is a bare image ID, a repository name wanted');
  const [named, digestText] = cutFirst(text, '@');
  const [host, rest] = splitHost(named);
  const [repository, tag] = cutFirst(rest, ':');
  checkName(text, host, repository);
  if (tag !== undefined && !TAG_PATTERN.test(tag)) throw invalid(text, 'the tag does not follow the grammar');
  if (digestText !== undefined) return { host, repository, digest: digestOfReference(text, digestText) };
  return { host, repository, tag: tag ?? 'latest' };
}

/** The full form: `host/repository:tag` or `host/repository@digest`. */
export function formatReference(reference: Reference): string {
  const name = `${reference.host}/${reference.repository}`;
  return reference.digest === undefined ? `${name}:${reference.tag}` : `${name}@${reference.digest}`;
}

/** Names of the image records that a pull leaves once the reference resolved to `digest`, as containerd names them. */
export function canonicalNames(reference: Reference, digest: Digest): string[] {
  const byDigest = `${reference.host}/${reference.repository}@${digest}`;
  return reference.tag === undefined ? [byDigest] : [byDigest, formatReference(reference)];
}

function checkName(text: string, host: string, repository: string): void {
  if (!HOST_PATTERN.test(host)) throw invalid(text, 'the registry host does not follow the grammar');
  if (repository.toLowerCase() !== repository) throw invalid(text, 'the repository must be lower-case');
  if (!REPOSITORY_PATTERN.test(repository)) throw invalid(text, 'the repository does not follow the grammar');
  if (host.length + 1 + repository.length > NAME_LENGTH_MAX)
    throw invalid(text, `host and repository are longer than ${NAME_LENGTH_MAX} characters`);
}

/** The first path element is a host if it could not be one of Docker Hub's namespaces. */
function splitHost(name: string): [host: string, rest: string] {
  const [first, rest] = cutFirst(name, '/');
  if (rest === undefined || !looksLikeHost(first)) return [DEFAULT_HOST, official(name)];
  if (first !== DEFAULT_HOST && first !== LEGACY_DEFAULT_HOST) return [first, rest];
  return [DEFAULT_HOST, official(rest)];
}

function looksLikeHost(element: string): boolean {
  return element === 'localhost' || /[.:]/.test(element) || element.toLowerCase() !== element;
}

function official(repository: string): string {
  return repository.includes('/') ? repository : `${OFFICIAL_PREFIX}${repository}`;
}

function digestOfReference(text: string, digest: string): Digest {
  if (isDigest(digest)) return digest;
  if (DIGEST_PATTERN.test(digest) && !digest.toLowerCase().startsWith('sha256:'))
    throw new ShoalError(
      ErrorCode.Unsupported,
      `Cannot use reference "${shown(text)}": its digest algorithm is not sha256`,
    );
  throw invalid(text, 'the digest does not follow the grammar, "sha256:" and 64 hex digits wanted');
}

function cutFirst(text: string, separator: string): [before: string, after: string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

function invalid(text: string, found: string): ShoalError {
  return new ShoalError(
    ErrorCode.InvalidReference,
    `Cannot parse image reference "${shown(text)}": ${found}`,
  );
}

/** References reach kubelet's events: what stands before an `@` that no digest follows may be a pasted login. */
function shown(text: string): string {
  const withoutLogin = text.replace(/^.*@(?!sha256:|[a-z0-9+._-]+:[0-9a-f]{32})/i, '…@');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not reach a log.
  return withoutLogin.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?').slice(0, 200);
}
