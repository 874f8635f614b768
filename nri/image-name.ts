const DEFAULT_HOST = 'docker.io';
const DEFAULT_PATH = 'library';
const DEFAULT_TAG = 'latest';

/**
 * One spelling for the names that a pod and kubelet give an image: `nginx`, `nginx:latest` and
 * `docker.io/library/nginx:latest` are the same. Only for comparing; what is no name at all comes back as it is.
 */
export function canonicalImageName(name: string): string {
  const [rest = '', digest] = splitOnce(name, '@');
  const { repository, tag } = splitTag(rest);
  const full = withHost(repository);
  if (digest !== undefined) return `${full}@${digest}`;
  return `${full}:${tag ?? DEFAULT_TAG}`;
}

function withHost(repository: string): string {
  const [first = '', path] = splitOnce(repository, '/');
  if (path === undefined) return `${DEFAULT_HOST}/${DEFAULT_PATH}/${repository}`;
  const isHost = first === 'localhost' || /[.:]/.test(first) || first !== first.toLowerCase();
  if (!isHost) return `${DEFAULT_HOST}/${repository}`;
  if (first === 'index.docker.io' || first === DEFAULT_HOST)
    return `${DEFAULT_HOST}/${path.includes('/') ? path : `${DEFAULT_PATH}/${path}`}`;
  return repository;
}

/** A colon before the last slash is a port's. */
function splitTag(name: string): { readonly repository: string; readonly tag: string | undefined } {
  const colon = name.lastIndexOf(':');
  if (colon <= name.lastIndexOf('/')) return { repository: name, tag: undefined };
  return { repository: name.slice(0, colon), tag: name.slice(colon + 1) };
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}
