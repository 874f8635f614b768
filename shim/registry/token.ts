import { ErrorCode, ShoalError } from '../base/errors.ts';
import type { HostCredentials } from './credentials.ts';
import { readBody, release } from './http-body.ts';
import { mapHttpError } from './http-error.ts';
import { SCOPES_MAX, TOKEN_BODY_BYTES_MAX, TOKEN_LENGTH_MAX } from './limits.ts';
import { isLoopbackHost } from './loopback.ts';
import type { Redactor } from './redaction.ts';
import { responseError } from './response-error.ts';
import type { HttpRequest, HttpResponse, Transport } from './transport.ts';

export interface TokenRequest {
  readonly realm: URL;
  readonly service: string;
  readonly scopes: readonly string[];
  readonly credentials: HostCredentials;
  /** Headers that belong to the realm's host. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface Token {
  readonly value: string;
  /** Absent when the server did not say. */
  readonly lifeMs: number | undefined;
}

/** The client that token servers see in a POST. */
const CLIENT_ID = 'shoal';
/** Answers to a POST that mean "ask by GET": token servers without OAuth2 give one of these. */
const NO_OAUTH_STATUSES = new Set([400, 401, 404, 405]);

/**
 * Fetches a token as containerd does (Docker registry token and OAuth2 specifications): with credentials by POST and, where
 * the server knows no POST, by GET with Basic; without any by GET. Redirects are not followed.
 */
export async function fetchToken(
  request: TokenRequest,
  transport: Transport,
  redactor: Redactor,
  signal: AbortSignal,
): Promise<Token> {
  const { credentials, realm } = request;
  const doing = `get a token from "${realm.host}"`;
  const send = async (url: URL, init: Omit<HttpRequest, 'signal'>) => {
    try {
      return await transport.send(url, { ...init, signal });
    } catch (error) {
      throw mapHttpError(error, doing, realm.host, signal);
    }
  };
  if (hasSecret(credentials)) {
    const response = await send(realm, postRequest(request));
    if (!NO_OAUTH_STATUSES.has(response.status)) return readToken(response, doing, redactor, signal);
    release(response);
  }
  const response = await send(getUrl(request), {
    headers: { ...request.headers, ...basicHeader(credentials) },
  });
  return readToken(response, doing, redactor, signal);
}

/**
 * The URL of a challenge's realm. Credentials go there, so it has to be https; only a registry on loopback may name
 * a loopback realm without. @throws RegistryProtocol.
 */
export function parseRealm(text: string | undefined, registryHost: string, registryIsPlain: boolean): URL {
  const url = text !== undefined && URL.canParse(text) ? new URL(text) : undefined;
  const reject = (found: string) =>
    new ShoalError(ErrorCode.RegistryProtocol, `Cannot authenticate to "${registryHost}": ${found}`);
  if (url === undefined) throw reject('its challenge names no realm, a URL wanted');
  url.username = '';
  url.password = '';
  url.hash = '';
  const isLocal = registryIsPlain && isLoopbackHost(registryHost) && isLoopbackHost(url.host);
  if (url.protocol === 'https:' || (url.protocol === 'http:' && isLocal)) return url;
  throw reject(`its token realm on "${url.host}" is ${url.protocol}//, https:// wanted`);
}

/** What to ask for: pulling from the repository, and what the challenge names for it, never more than pulling. */
export function scopesFor(repository: string, challengeScope: string | undefined): string[] {
  const own = `repository:${repository}:pull`;
  const named = (challengeScope ?? '').split(' ').filter((scope) => scope !== '');
  const reduced = named.map((scope) => scope.replace(/^(repository(?:\([^)]*\))?:[^\s]+):[^:]*$/, '$1:pull'));
  return [...new Set([...reduced, own])].slice(0, SCOPES_MAX);
}

function hasSecret(credentials: HostCredentials): boolean {
  return (
    (credentials.kind === 'password' && credentials.password !== '') || credentials.kind === 'identity-token'
  );
}

function postRequest({ service, scopes, credentials, headers }: TokenRequest): Omit<HttpRequest, 'signal'> {
  const form = new URLSearchParams({ client_id: CLIENT_ID, service, scope: scopes.join(' ') });
  if (credentials.kind === 'identity-token') {
    form.set('grant_type', 'refresh_token');
    form.set('refresh_token', credentials.token);
  } else if (credentials.kind === 'password') {
    form.set('grant_type', 'password');
    form.set('username', credentials.username);
    form.set('password', credentials.password);
  }
  const contentType = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' };
  return { method: 'POST', headers: { ...headers, ...contentType }, body: form.toString() };
}

function getUrl({ realm, service, scopes }: TokenRequest): URL {
  const url = new URL(realm);
  if (service !== '') url.searchParams.append('service', service);
  for (const scope of scopes) url.searchParams.append('scope', scope);
  return url;
}

/** Of an identity token the user is empty, as in containerd. */
export function basicHeader(credentials: HostCredentials): { authorization?: string } {
  if (!hasSecret(credentials)) return {};
  const pair =
    credentials.kind === 'password'
      ? `${credentials.username}:${credentials.password}`
      : `:${credentials.kind === 'identity-token' ? credentials.token : ''}`;
  return { authorization: `Basic ${Buffer.from(pair).toString('base64')}` };
}

async function readToken(
  response: HttpResponse,
  doing: string,
  redactor: Redactor,
  signal: AbortSignal,
): Promise<Token> {
  if (response.status !== 200) throw await tokenRefusal(response, doing, redactor, signal);
  const bytes = await readBody(response, { bytesMax: TOKEN_BODY_BYTES_MAX, doing, signal });
  const answer = parseAnswer(bytes);
  const value = answer.access_token || answer.token;
  if (typeof value !== 'string' || value.length > TOKEN_LENGTH_MAX || !/^[\x21-\x7e]+$/.test(value))
    throw new ShoalError(
      ErrorCode.RegistryProtocol,
      `Cannot ${doing}: its answer holds no token that can be sent`,
    );
  redactor.add(value);
  const seconds = answer.expires_in;
  const isKnown = typeof seconds === 'number' && Number.isFinite(seconds) && seconds > 0;
  return { value, lifeMs: isKnown ? seconds * 1000 : undefined };
}

/** A token server that refuses by 4xx means that the caller may not read; other answers are its own trouble. */
async function tokenRefusal(response: HttpResponse, doing: string, redactor: Redactor, signal: AbortSignal) {
  const error = await responseError(response, doing, redactor, signal);
  if (response.status !== 400 && response.status !== 404) return error;
  return new ShoalError(ErrorCode.Unauthorized, error.message, { facts: error.facts });
}

function parseAnswer(bytes: Uint8Array): Record<string, unknown> {
  try {
    const answer: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return typeof answer === 'object' && answer !== null ? (answer as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
