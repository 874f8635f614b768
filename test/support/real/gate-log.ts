import type { IncomingMessage } from 'node:http';
import type { PathClass } from './gate-faults.ts';

/** Requests remembered; the oldest go first. */
const REQUESTS_MAX = 100_000;

export interface GateRequest {
  readonly class: PathClass;
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly range: string | undefined;
  /** The scheme alone: a test must not have to handle secrets to see whether they were sent. */
  readonly authorization: 'none' | 'basic' | 'bearer' | 'other';
  readonly userAgent: string | undefined;
  readonly startedMs: number;
  status: number;
  /** Bytes of the body that were sent. */
  bytes: number;
  endedMs: number | undefined;
}

export interface RequestFilter {
  readonly class?: PathClass;
  readonly method?: string;
  /** The path must contain it. */
  readonly path?: string;
}

/** What the gate has been asked, in order. */
export class GateLog {
  #entries: GateRequest[] = [];

  /** Notes the request; the caller fills in how it went. */
  add(incoming: IncomingMessage): GateRequest {
    const entry = entryOf(incoming);
    this.#entries.push(entry);
    if (this.#entries.length > REQUESTS_MAX) this.#entries.shift();
    return entry;
  }

  select(filter: RequestFilter = {}): GateRequest[] {
    return this.#entries.filter((entry) => passes(entry, filter));
  }

  clear(): void {
    this.#entries = [];
  }
}

function entryOf(incoming: IncomingMessage): GateRequest {
  const path = incoming.url ?? '/';
  return {
    class: classOf(path),
    method: incoming.method ?? 'GET',
    path,
    range: incoming.headers.range,
    authorization: schemeOf(incoming.headers.authorization),
    userAgent: incoming.headers['user-agent'],
    startedMs: performance.now(),
    status: 0,
    bytes: 0,
    endedMs: undefined,
  };
}

function classOf(path: string): PathClass {
  const [pathname = ''] = path.split('?');
  if (/^\/v2\/?$/.test(pathname)) return 'ping';
  if (pathname === '/token') return 'token';
  if (/\/blobs\/uploads\//.test(pathname)) return 'upload';
  if (/\/blobs\/[^/]+$/.test(pathname)) return 'blob';
  return /\/manifests\/[^/]+$/.test(pathname) ? 'manifest' : 'other';
}

function schemeOf(authorization: string | undefined): GateRequest['authorization'] {
  if (authorization === undefined) return 'none';
  const scheme = authorization.split(' ')[0]?.toLowerCase();
  return scheme === 'basic' || scheme === 'bearer' ? scheme : 'other';
}

function passes(entry: GateRequest, filter: RequestFilter): boolean {
  if (filter.class !== undefined && entry.class !== filter.class) return false;
  if (filter.method !== undefined && entry.method !== filter.method) return false;
  return filter.path === undefined || entry.path.includes(filter.path);
}
