import type { Readable } from 'node:stream';
import { Agent, request } from 'undici';
import { ErrorCode, nodeErrorCode, ShoalError, throwIfAborted } from '../base/errors.ts';
import type { ClusterAccess } from './cluster-access.ts';

/** A page of objects, or one secret. Pods have a few kilobytes, at most what etcd takes (1.5 MB). */
const ANSWER_BYTES_MAX = 32 * 1024 * 1024;
/** One event of a watch: an object and its frame. */
const LINE_BYTES_MAX = 4 * 1024 * 1024;
const CONNECT_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 30_000;
/** The server ends a watch after this, s; a new one takes up where it ended. */
const WATCH_SECONDS = 300;
/** Bookmarks come about once a minute: a watch that is silent for longer is dead, ms. */
const WATCH_SILENCE_MAX_MS = 150_000;

export interface ApiRequest {
  /** Below the server: `/api/v1/pods`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly accept?: string;
}

/**
 * Reads from one API server. The official client takes 85 MB of memory as soon as it is imported, a third of what a whole agent
 * may have: all that is needed here is to get, to list and to watch.
 *
 * Every call rejects with ClusterUnavailable (`facts.status`, if it answered) or Cancelled.
 */
export class ApiClient {
  readonly #access: ClusterAccess;
  readonly #agent: Agent;

  constructor(access: ClusterAccess) {
    const { ca, client, skipVerify, serverName } = access;
    this.#access = access;
    this.#agent = new Agent({
      connections: 2,
      pipelining: 1,
      headersTimeout: ANSWER_TIMEOUT_MS,
      bodyTimeout: WATCH_SILENCE_MAX_MS,
      connect: {
        timeout: CONNECT_TIMEOUT_MS,
        rejectUnauthorized: !skipVerify,
        ...(ca && { ca }),
        ...client,
        ...(serverName && { servername: serverName }),
      },
    });
  }

  async get(asked: ApiRequest, signal: AbortSignal): Promise<unknown> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]);
    return await this.#guard(asked, signal, async () => {
      const body = await this.#send(asked, limited);
      return parseJson((await readAll(body)).toString(), asked);
    });
  }

  /**
   * Events after a resource version, until the server ends the watch.
   * @param onOpen Told when the server has accepted it: the first event may be a minute away.
   */
  async *watch(
    asked: ApiRequest,
    resourceVersion: string,
    onOpen: () => void,
    signal: AbortSignal,
  ): AsyncGenerator<unknown> {
    const query = {
      ...asked.query,
      watch: '1',
      allowWatchBookmarks: 'true',
      timeoutSeconds: String(WATCH_SECONDS),
      resourceVersion,
    };
    const body = await this.#guard(asked, signal, () => this.#send({ ...asked, query }, signal));
    body.on('error', () => undefined);
    onOpen();
    const lines = linesOf(body);
    try {
      for (;;) {
        const { value, done } = await this.#guard(asked, signal, () => lines.next());
        if (done) return;
        yield parseJson(value, asked);
      }
    } finally {
      body.destroy();
    }
  }

  /** Closes every connection, busy ones as well. */
  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  async #send(
    { path, query, accept = 'application/json' }: ApiRequest,
    signal: AbortSignal,
  ): Promise<Readable> {
    const { server, token } = this.#access;
    const url = new URL(server);
    url.pathname = `${url.pathname.replace(/\/$/, '')}${path}`;
    url.search = new URLSearchParams(query).toString();
    const headers = { accept, 'user-agent': 'shoal', ...(token && { authorization: `Bearer ${token}` }) };
    const { statusCode, body } = await request(url, { dispatcher: this.#agent, headers, signal });
    if (statusCode === 200) return body;
    body.on('error', () => undefined).destroy();
    throw unavailable(path, `the API server answered ${statusCode}`, { status: statusCode });
  }

  async #guard<T>({ path }: ApiRequest, signal: AbortSignal, run: () => Promise<T>): Promise<T> {
    const doing = `read "${path}" of the API server`;
    throwIfAborted(signal, doing);
    try {
      return await run();
    } catch (error) {
      throwIfAborted(signal, doing);
      if (error instanceof ShoalError) throw error;
      // Messages of the HTTP client may quote what was sent.
      throw unavailable(path, `it failed with ${nodeErrorCode(error) ?? 'an unknown error'}`, {});
    }
  }
}

export function unavailable(
  path: string,
  found: string,
  facts: Readonly<Record<string, number>>,
  cause?: unknown,
): ShoalError {
  const message = `Cannot read "${path}" of the API server: ${found}`;
  return new ShoalError(ErrorCode.ClusterUnavailable, message, { facts, retriable: true, cause });
}

async function readAll(body: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    sizeBytes += (chunk as Buffer).length;
    if (sizeBytes > ANSWER_BYTES_MAX) throw tooLarge(ANSWER_BYTES_MAX);
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}

async function* linesOf(body: Readable): AsyncGenerator<string> {
  let pieces: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      const line = Buffer.concat([...pieces, chunk.subarray(from, at)]).toString();
      pieces = [];
      sizeBytes = 0;
      from = at + 1;
      if (line !== '') yield line;
    }
    pieces.push(chunk.subarray(from));
    sizeBytes += chunk.length - from;
    if (sizeBytes > LINE_BYTES_MAX) throw tooLarge(LINE_BYTES_MAX);
  }
}

const NEWLINE = 0x0a;

function tooLarge(bytesMax: number): ShoalError {
  return new ShoalError(
    ErrorCode.ClusterUnavailable,
    `Cannot read what the API server sends: more than ${bytesMax} bytes at once`,
  );
}

function parseJson(text: string, { path }: ApiRequest): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw unavailable(path, 'its answer is no JSON', {});
  }
}
