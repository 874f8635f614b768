import { ErrorCode, ShoalError } from '../base/errors.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import type { HostCredentials } from './credentials.ts';
import { TOKEN_MARGIN_MS, TOKEN_TIMEOUT_MS } from './limits.ts';
import type { Redactor } from './redaction.ts';
import { basicHeader, fetchToken, parseRealm, scopesFor, type TokenRequest } from './token.ts';
import type { HttpResponse, Transport } from './transport.ts';

export interface AuthorizerOptions {
  /** Host with port that challenges. */
  readonly host: string;
  readonly repository: string;
  readonly credentials: HostCredentials;
  /** Headers of hosts.toml; a realm on the same host gets them too. */
  readonly headers: Readonly<Record<string, string>>;
  readonly transport: Transport;
  readonly redactor: Redactor;
  /** Ends token requests when the origin closes. */
  readonly closing: AbortSignal;
}

interface Authorization {
  readonly header: string;
  readonly expiresAtMs: number;
}

/**
 * Answers the challenges of one host with one caller's credentials. Nothing is sent before the host has asked. Token
 * requests are shared: however many readers meet an expired token, one new one is fetched.
 */
export class Authorizer {
  readonly #options: AuthorizerOptions;
  #tokenRequest: TokenRequest | undefined;
  #current: Authorization | undefined;
  #pending: Promise<Authorization> | undefined;

  constructor(options: AuthorizerOptions) {
    this.#options = options;
  }

  /** The Authorization header to send now, if the host has asked for one before. Replaces a token about to expire. */
  async header(signal: AbortSignal): Promise<string | undefined> {
    const current = this.#current;
    if (current === undefined) return undefined;
    if (Date.now() < current.expiresAtMs) return current.header;
    return (await this.#renew(signal)).header;
  }

  /**
   * Takes a 401 to a request that carried `sent`. Says whether the same request is worth repeating.
   * @throws Unauthorized when the credentials cannot be used, and the token server's errors.
   */
  async answer(
    response: HttpResponse,
    sent: string | undefined,
    isPlain: boolean,
    signal: AbortSignal,
  ): Promise<boolean> {
    if (this.#current !== undefined && this.#current.header !== sent) return true;
    const { credentials, host } = this.#options;
    const challenges = parseChallenges(response.headers('www-authenticate'));
    if (challenges.length > 0 && credentials.kind === 'unusable')
      throw new ShoalError(ErrorCode.Unauthorized, `Cannot authenticate to "${host}": ${credentials.reason}`);
    for (const challenge of challenges) {
      if (challenge.scheme === 'bearer') return this.#answerBearer(challenge, sent, isPlain, signal);
      const basic = credentials.kind === 'password' ? basicHeader(credentials).authorization : undefined;
      if (basic !== undefined) return this.#use(basic, sent);
    }
    return false;
  }

  async #answerBearer(
    challenge: Challenge,
    sent: string | undefined,
    isPlain: boolean,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { credentials, host, repository, headers } = this.#options;
    if (credentials.kind === 'registry-token')
      return this.#use(`Bearer ${checkToken(credentials.token, host)}`, sent);
    const { parameters } = challenge;
    const realm = parseRealm(parameters.get('realm'), host, isPlain);
    this.#tokenRequest = {
      realm,
      service: parameters.get('service') ?? '',
      scopes: scopesFor(repository, parameters.get('scope')),
      credentials,
      headers: realm.host === host ? headers : {},
    };
    await this.#renew(signal);
    return true;
  }

  /** A fixed header that was refused once is refused for good. */
  #use(header: string, sent: string | undefined): boolean {
    if (header === sent) return false;
    this.#options.redactor.add(header.replace(/^\w+ /, ''));
    this.#current = { header, expiresAtMs: Number.POSITIVE_INFINITY };
    return true;
  }

  async #renew(signal: AbortSignal): Promise<Authorization> {
    this.#pending ??= this.#fetch().finally(() => {
      this.#pending = undefined;
    });
    return await untilAborted(this.#pending, signal);
  }

  async #fetch(): Promise<Authorization> {
    const { transport, redactor, closing } = this.#options;
    const request = this.#tokenRequest;
    if (request === undefined)
      throw new ShoalError(
        ErrorCode.Unauthorized,
        `Cannot authenticate to "${this.#options.host}": no realm is known`,
      );
    const limit = AbortSignal.timeout(TOKEN_TIMEOUT_MS);
    const signal = AbortSignal.any([closing, limit]);
    const token = await fetchToken(request, transport, redactor, signal).catch((error: unknown) => {
      throw limit.aborted && !closing.aborted ? tooSlow(request.realm.host) : error;
    });
    const lifeMs = token.lifeMs ?? Number.POSITIVE_INFINITY;
    const usableMs = Math.max(lifeMs - TOKEN_MARGIN_MS, lifeMs * 0.9);
    this.#current = { header: `Bearer ${token.value}`, expiresAtMs: Date.now() + usableMs };
    return this.#current;
  }
}

function checkToken(token: string, host: string): string {
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new ShoalError(
    ErrorCode.Unauthorized,
    `Cannot authenticate to "${host}": the registry token holds characters that no header may`,
  );
}

function tooSlow(host: string): ShoalError {
  const found = `no answer within ${TOKEN_TIMEOUT_MS} ms`;
  return new ShoalError(ErrorCode.RegistryUnavailable, `Cannot get a token from "${host}": ${found}`, {
    retriable: true,
  });
}

/** Waits for shared work without ending it when one of those who wait gives up. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
