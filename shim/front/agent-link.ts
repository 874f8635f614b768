import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2';
import { monotonicMs } from '../cri/monotonic-clock.ts';
import { connectUnix } from '../cri/upstream.ts';

/** Between two looks at the agent, ms: how late its return is noticed. */
export const PROBE_INTERVAL_MS = 500;
/** An agent that has not answered a PING for this long counts as dead, ms. Its event loop answers in microseconds. */
export const PROBE_TIMEOUT_MS = 2000;

/**
 * The connection to the agent's CRI socket, and the verdict whether the agent is healthy: connected, and it answers
 * HTTP/2 PINGs, which takes a running event loop. The verdict `unhealthy` closes the connection, so every call that
 * waits for an answer on it ends at once.
 */
export class AgentLink {
  readonly #socketPath: string;
  readonly #onChange: (healthy: boolean) => void;
  readonly #timer: NodeJS.Timeout;
  #session: ClientHttp2Session | undefined;
  #pingSentMs: number | undefined;
  #healthy = false;

  /** @param onChange Told of every change of the verdict. */
  constructor(socketPath: string, onChange: (healthy: boolean) => void) {
    this.#socketPath = socketPath;
    this.#onChange = onChange;
    this.#timer = setInterval(() => this.#probe(), PROBE_INTERVAL_MS);
    this.#probe();
  }

  get healthy(): boolean {
    return this.#healthy;
  }

  /** Opens a stream to the agent; undefined when it is not healthy. */
  open(headers: readonly string[]): ClientHttp2Stream | undefined {
    const session = this.#session;
    if (!this.#healthy || session === undefined || session.closed || session.destroyed) return undefined;
    return session.request(headers as string[], { endStream: false });
  }

  close(): void {
    clearInterval(this.#timer);
    this.#session?.destroy();
  }

  #probe(): void {
    const session = this.#session;
    if (session === undefined) this.#connect();
    else if (this.#pingSentMs === undefined) this.#ping(session);
    else if (monotonicMs() - this.#pingSentMs >= PROBE_TIMEOUT_MS) session.destroy();
  }

  #connect(): void {
    const session = connectUnix(this.#socketPath);
    this.#session = session;
    // A socket whose owner is frozen accepts a connection and nothing else: the wait for the first PING starts now.
    this.#pingSentMs = monotonicMs();
    session.once('connect', () => this.#ping(session));
    session.on('error', () => undefined);
    session.on('goaway', () => this.#lose(session));
    session.once('close', () => this.#lose(session));
  }

  #ping(session: ClientHttp2Session): void {
    this.#pingSentMs = monotonicMs();
    session.ping((error) => {
      if (error !== null || this.#session !== session) return;
      this.#pingSentMs = undefined;
      this.#judge(true);
    });
  }

  /** The connection is over, or takes no new calls: those on it may end, the next one needs another connection. */
  #lose(session: ClientHttp2Session): void {
    if (this.#session !== session) return;
    this.#session = undefined;
    this.#pingSentMs = undefined;
    this.#judge(false);
  }

  #judge(healthy: boolean): void {
    if (this.#healthy === healthy) return;
    this.#healthy = healthy;
    this.#onChange(healthy);
  }
}
