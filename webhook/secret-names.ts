const PREFIX = 'acr-credential-';
const SUFFIX = '-p2p';
/** Longest name of an object in Kubernetes (a DNS subdomain, RFC 1123). */
const NAME_LENGTH_MAX = 253;

/** Longest name of a secret that can have a copy: 234. */
export const SOURCE_NAME_LENGTH_MAX = NAME_LENGTH_MAX - PREFIX.length - SUFFIX.length;

/** `acr-credential-<name>-p2p`; undefined where that would be longer than Kubernetes allows. */
export function p2pSecretName(sourceName: string): string | undefined {
  return sourceName.length > SOURCE_NAME_LENGTH_MAX ? undefined : `${PREFIX}${sourceName}${SUFFIX}`;
}

/** The name of the secret that one of this name is a copy of; undefined where it is no name of a copy. */
export function sourceSecretName(name: string): string | undefined {
  const isCopy =
    name.length > PREFIX.length + SUFFIX.length && name.startsWith(PREFIX) && name.endsWith(SUFFIX);
  return isCopy ? name.slice(PREFIX.length, -SUFFIX.length) : undefined;
}
