import { hostOfServerAddress } from '../base/server-address.ts';
import { isLoopbackHost } from './loopback.ts';
import type { Credentials } from './origin.ts';

/** What one host may be told, after containerd's order of precedence. */
export type HostCredentials =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  | { readonly kind: 'identity-token'; readonly token: string }
  | { readonly kind: 'registry-token'; readonly token: string }
  /** The fields cannot be read; said only to a host that asks, for many ask nothing. */
  | { readonly kind: 'unusable'; readonly reason: string };

const ANONYMOUS: HostCredentials = { kind: 'anonymous' };

/** Names under which Docker Hub's registry is known; credentials for one are for all. */
const DOCKER_HUB_HOSTS = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io']);

/**
 * Picks the credentials of a CRI AuthConfig: user and password, then identity token, then `auth`, then registry token
 * (containerd's order; it knows no registry token).
 */
export function normaliseCredentials(credentials: Credentials | undefined): HostCredentials {
  if (credentials === undefined) return ANONYMOUS;
  const { username, password, identityToken, auth, registryToken } = credentials;
  if (username) return { kind: 'password', username, password: password ?? '' };
  if (identityToken) return { kind: 'identity-token', token: identityToken };
  if (auth) return decodeAuth(auth);
  if (registryToken) return { kind: 'registry-token', token: registryToken };
  return ANONYMOUS;
}

/** The credentials that may be sent to `host`: none when their server address names another one. */
export function credentialsForHost(credentials: Credentials | undefined, host: string): HostCredentials {
  if (credentials?.serverAddress && !namesHost(credentials.serverAddress, host)) return ANONYMOUS;
  return normaliseCredentials(credentials);
}

/** Everything in `credentials` that must never be seen, for redaction. */
export function secretsOf(credentials: Credentials | undefined): string[] {
  if (credentials === undefined) return [];
  const { password, identityToken, auth, registryToken } = credentials;
  const decoded = auth ? decodeAuth(auth) : ANONYMOUS;
  const pair = credentials.username
    ? Buffer.from(`${credentials.username}:${password ?? ''}`).toString('base64')
    : '';
  const passwords = [password, decoded.kind === 'password' ? decoded.password : ''];
  return [...passwords, identityToken, auth, registryToken, pair].filter((text): text is string =>
    Boolean(text),
  );
}

function namesHost(serverAddress: string, host: string): boolean {
  const named = hostOfServerAddress(serverAddress);
  if (named === undefined) return false;
  if (DOCKER_HUB_HOSTS.has(named) && DOCKER_HUB_HOSTS.has(host)) return true;
  return withoutDefaultPort(named) === withoutDefaultPort(host.toLowerCase());
}

function withoutDefaultPort(host: string): string {
  return isLoopbackHost(host) ? host : host.replace(/:443$/, '');
}

function decodeAuth(auth: string): HostCredentials {
  const decoded = Buffer.from(auth, 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  const isBase64 = /^[A-Za-z0-9+/]+={0,2}$/.test(auth.trim());
  if (!isBase64 || colon < 0)
    return { kind: 'unusable', reason: 'the field "auth" is not base64 of "user:password"' };
  // Docker pads the field with NUL bytes.
  const password = decoded.slice(colon + 1).replace(/^\0+|\0+$/g, '');
  return { kind: 'password', username: decoded.slice(0, colon), password };
}
