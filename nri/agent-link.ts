import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { CONTROL_PATHS, type PodNotice, type PullResult } from '../shim/agent/control-protocol.ts';
import { ErrorCode, isShoalError } from '../shim/base/errors.ts';
import { callAgent, tellAgent } from './agent-client.ts';
import { BackOff } from './back-off.ts';
import { NoticeQueue, syncBody } from './notice-queue.ts';
import type { AgentMessage } from './plugin.ts';
import { ResultLines } from './result-lines.ts';

/** Between tries to reach the agent, ms: an agent restarts in a second or two, and trying costs next to nothing. */
const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5000;

export interface AgentLinkOptions {
  readonly socketPath: string;
  /** All pods, for an agent that has none. */
  readonly snapshot: () => readonly PodNotice[];
  readonly onResult: (result: PullResult) => void;
  readonly log: (line: string) => void;
}

/**
 * Keeps the agent informed, whatever state it is in: connected means that its stream of results is open. Each connection
 * begins with all pods, so nothing is kept while there is none; from then on messages follow one another in order.
 */
export class AgentLink {
  readonly #options: AgentLinkOptions;
  readonly #queue = new NoticeQueue();
  readonly #backOff = new BackOff(RETRY_FIRST_MS, RETRY_MAX_MS);
  #socketPath: string;
  #isConnected = false;
  #wake: () => void = () => undefined;
  #lastReport = '';

  constructor(options: AgentLinkOptions) {
    this.#options = options;
    this.#socketPath = options.socketPath;
  }

  /** Whether results arrive. */
  get isConnected(): boolean {
    return this.#isConnected;
  }

  /** Where the agent is looked for from the next connection on. */
  setSocketPath(socketPath: string): void {
    this.#socketPath = socketPath;
  }

  /** Never waits. Without an agent it does nothing: the pod is in the snapshot. */
  tell(message: AgentMessage): void {
    if (!this.#isConnected) return;
    if (this.#queue.push(message) === 'dropped')
      this.#report('The agent is slow: the oldest message is dropped, and all pods will be told again');
    this.#wake();
  }

  /** All pods are to be told again. */
  resync(): void {
    this.#queue.requestSync();
    this.#wake();
  }

  /** Until the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#session(signal);
        this.#report('The agent has closed the connection');
      } catch (error) {
        if (!signal.aborted) this.#report(messageOf(error));
      }
      const waitMs = this.#backOff.next(Math.random());
      await sleep(waitMs, undefined, { signal }).catch(() => undefined);
    }
  }

  async #session(signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const end = (): void => over.abort();
    signal.addEventListener('abort', end, { once: true });
    const socketPath = this.#socketPath;
    const call = { method: 'GET', path: CONTROL_PATHS.podsResults } as const;
    let results: IncomingMessage | undefined;
    try {
      results = await callAgent(socketPath, call, over.signal);
      this.#isConnected = true;
      this.#queue.requestSync();
      const stopped = new Promise((resolve) =>
        over.signal.addEventListener('abort', resolve, { once: true }),
      );
      await Promise.race([this.#readResults(results), this.#sendAll(socketPath, over.signal), stopped]);
    } finally {
      signal.removeEventListener('abort', end);
      this.#isConnected = false;
      end();
      results?.destroy();
      this.#wake();
    }
  }

  async #readResults(stream: AsyncIterable<Buffer>): Promise<void> {
    const lines = new ResultLines();
    for await (const chunk of stream) for (const result of lines.feed(chunk)) this.#options.onResult(result);
  }

  async #sendAll(socketPath: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const next = this.#queue.shift();
      if (next === undefined)
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      else await this.#send(socketPath, next, signal);
    }
  }

  /** What the agent refuses is left out; only an agent that does not answer ends the connection. */
  async #send(socketPath: string, next: AgentMessage | 'sync', signal: AbortSignal): Promise<void> {
    try {
      const { path, body } = this.#callFor(next);
      await tellAgent(socketPath, { method: 'POST', path, body }, signal);
      if (next !== 'sync') return;
      this.#backOff.reset();
      this.#report('Connected to the agent');
    } catch (error) {
      if (!isShoalError(error, ErrorCode.Unsupported)) throw error;
      this.#report(error.message);
    }
  }

  #callFor(next: AgentMessage | 'sync'): { readonly path: string; readonly body: string } {
    if (next === 'sync') return { path: CONTROL_PATHS.podsSync, body: syncBody(this.#options.snapshot()) };
    if (next.kind === 'started') return { path: CONTROL_PATHS.pods, body: JSON.stringify(next.notice) };
    return { path: CONTROL_PATHS.podsRemoved, body: JSON.stringify({ podUid: next.podUid }) };
  }

  /** Once, however often it happens in a row. */
  #report(line: string): void {
    if (line !== this.#lastReport) this.#options.log(line);
    this.#lastReport = line;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
