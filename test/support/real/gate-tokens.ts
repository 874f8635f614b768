import { randomBytes } from 'node:crypto';

const DEFAULT_LIFETIME_SECONDS = 300;
/** More than any test asks for; the oldest go first. */
const TOKENS_MAX = 10_000;

export interface TokenOptions {
  /** Who may get tokens, and for which repositories (default: all). */
  readonly users?: Readonly<
    Record<string, { readonly password: string; readonly repositories?: readonly string[] }>
  >;
  /** Repositories that anyone may read, or true for all. Default none. */
  readonly anonymous?: boolean | readonly string[];
  readonly lifetimeSeconds?: number;
  /** Names the token server in the challenge. Default: the gate's own /token. */
  readonly realm?: string;
  readonly service?: string;
}

export interface Access {
  readonly repository: string;
  readonly action: 'pull' | 'push';
}

interface Grant {
  readonly expiresAtMs: number;
  readonly access: readonly Access[];
}

export type TokenAnswer =
  | {
      readonly status: 200;
      readonly body: { token: string; access_token: string; expires_in: number; issued_at: string };
    }
  | { readonly status: 401 };

/** The Bearer flow of registries, both sides: gives out random tokens and judges them. Pure but for the randomness. */
export class TokenAuthority {
  readonly #options: TokenOptions;
  readonly #grants = new Map<string, Grant>();

  constructor(options: TokenOptions) {
    this.#options = options;
  }

  /** Answers a request to the token server. Scopes that the caller may not have are left out, as registries do. */
  issue(scopes: readonly string[], authorization: string | undefined, nowMs: number): TokenAnswer {
    const user = this.#authenticate(authorization);
    if (user === 'refused') return { status: 401 };
    const lifetimeSeconds = this.#options.lifetimeSeconds ?? DEFAULT_LIFETIME_SECONDS;
    const access = scopes.flatMap(parseScope).filter((one) => this.#mayHave(user, one));
    const token = jwtLike();
    this.#grants.set(token, { access, expiresAtMs: nowMs + lifetimeSeconds * 1000 });
    for (const oldest of this.#grants.keys()) {
      if (this.#grants.size <= TOKENS_MAX) break;
      this.#grants.delete(oldest);
    }
    const issued_at = new Date(nowMs).toISOString();
    return { status: 200, body: { token, access_token: token, expires_in: lifetimeSeconds, issued_at } };
  }

  /** Does the Authorization header hold a live token with this access? */
  permits(authorization: string | undefined, wanted: Access | undefined, nowMs: number): boolean {
    const [, token] = /^Bearer (.+)$/i.exec(authorization ?? '') ?? [];
    const grant = this.#grants.get(token ?? '');
    if (grant === undefined || grant.expiresAtMs <= nowMs) return false;
    if (wanted === undefined) return true;
    return grant.access.some((one) => one.repository === wanted.repository && one.action === wanted.action);
  }

  /** The WWW-Authenticate header for a request without a good token. */
  challenge(ownUrl: string, wanted: Access | undefined): string {
    const { realm = `${ownUrl}/token`, service = 'registry.test' } = this.#options;
    const scope =
      wanted === undefined ? '' : `,scope="repository:${wanted.repository}:${scopeActions(wanted)}"`;
    return `Bearer realm="${realm}",service="${service}"${scope}`;
  }

  expireAll(): void {
    this.#grants.clear();
  }

  #authenticate(authorization: string | undefined): string | undefined | 'refused' {
    if (authorization === undefined) return undefined;
    const [, encoded] = /^Basic (.+)$/i.exec(authorization) ?? [];
    const [user = '', ...rest] = Buffer.from(encoded ?? '', 'base64')
      .toString()
      .split(':');
    return this.#options.users?.[user]?.password === rest.join(':') ? user : 'refused';
  }

  #mayHave(user: string | undefined, { repository, action }: Access): boolean {
    const { anonymous = false, users } = this.#options;
    const open = anonymous === true || (Array.isArray(anonymous) && anonymous.includes(repository));
    if (open && action === 'pull') return true;
    if (user === undefined) return false;
    return users?.[user]?.repositories?.includes(repository) ?? true;
  }
}

/** `repository:NAME:pull,push`, several of them separated by blanks. */
function parseScope(scope: string): Access[] {
  return scope.split(' ').flatMap((part) => {
    const [, repository, actions] = /^repository:(.+):([a-z,*]+)$/.exec(part) ?? [];
    if (repository === undefined || actions === undefined) return [];
    const known = actions.split(',').filter((action) => action === 'pull' || action === 'push');
    return known.map((action): Access => ({ repository, action }));
  });
}

function scopeActions({ action }: Access): string {
  return action === 'push' ? 'pull,push' : 'pull';
}

/** Three base64url parts as real tokens have, so that searches for leaked tokens find the shape they look for. */
function jwtLike(): string {
  return [24, 96, 64].map((bytes) => randomBytes(bytes).toString('base64url')).join('.');
}
