import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';
import { monotonicMs } from '../cri/monotonic-clock.ts';
import { answerWithoutAgent, isHeadComplete, REQUEST_HEAD_BYTES_MAX } from './http-answer.ts';

/** Connections at once: containerd opens a few a pull, an overlaybd device one. */
export const HTTP_CONNECTIONS_MAX = 1024;
/** A connection that has sent nothing for this long is closed, ms. Until then it is accepted and ignored. */
export const SILENT_TIMEOUT_MS = 60_000;
/** How long the agent may take to accept, ms: it is on this machine. */
const CONNECT_TIMEOUT_MS = 1000;
/** After the verdict `unhealthy`, connections to the agent that have carried nothing for this long are closed, ms. */
const STALLED_MS = 2000;
/** Between two tries to get the port while another process has it, ms. */
const LISTEN_RETRY_MS = 5000;

export interface HttpFrontOptions {
  readonly listen: { readonly host: string; readonly port: number };
  readonly agent: AgentHttpAddress;
  readonly isAgentHealthy: () => boolean;
  readonly log: (line: string) => void;
}

/** Where the agent's own HTTP service listens. */
export type AgentHttpAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** A connection that is being carried to the agent. */
interface Splice {
  readonly client: Socket;
  readonly agent: Socket;
  lastByteMs: number;
}

/** The HTTP port as containerd and overlaybd see it: the agent's while that is healthy, else a polite refusal. */
export class HttpFront {
  readonly #options: HttpFrontOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #splices = new Set<Splice>();
  #retry: NodeJS.Timeout | undefined;

  constructor(options: HttpFrontOptions) {
    this.#options = options;
    this.#server = createServer({ noDelay: true }, (client) => this.#accept(client));
    this.#server.maxConnections = HTTP_CONNECTIONS_MAX;
  }

  /** The port that is listened on; undefined while another process has it. */
  get port(): number | undefined {
    const address = this.#server.address();
    return address !== null && typeof address === 'object' ? address.port : undefined;
  }

  /** Listens, and goes on trying while the port is taken: kubelet's socket must not depend on it. */
  async start(): Promise<void> {
    try {
      await this.#listen();
    } catch (error) {
      const { host, port } = this.#options.listen;
      const what = `Cannot listen on "${host}:${port}": ${nodeErrorCode(error) ?? 'an unknown failure'}`;
      this.#options.log(new ShoalError(ErrorCode.ListenFailed, what).message);
      this.#retry = setTimeout(() => void this.start(), LISTEN_RETRY_MS);
    }
  }

  /** Closes what waits for an agent that does not move; connections on which bytes flow are left alone. */
  onAgentUnhealthy(nowMs: number): void {
    for (const splice of this.#splices) {
      if (nowMs - splice.lastByteMs >= STALLED_MS) splice.client.destroy();
    }
  }

  async close(): Promise<void> {
    clearTimeout(this.#retry);
    for (const socket of this.#sockets) socket.destroy();
    if (this.#server.listening)
      await new Promise<void>((resolve) => void this.#server.close(() => resolve()));
  }

  #listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#options.listen, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
  }

  #accept(client: Socket): void {
    this.#sockets.add(client);
    client.once('close', () => this.#sockets.delete(client));
    client.on('error', () => undefined);
    client.setTimeout(SILENT_TIMEOUT_MS, () => client.destroy());
    // Nothing is decided before the first byte: a probe that only connects costs the agent nothing.
    client.once('readable', () => this.#route(client));
  }

  #route(client: Socket): void {
    if (client.destroyed || client.readableEnded) return;
    if (!this.#options.isAgentHealthy()) {
      refuse(client);
      return;
    }
    const agent = createConnection(this.#options.agent);
    agent.setTimeout(CONNECT_TIMEOUT_MS, () => agent.destroy());
    const fail = () => (agent.connecting || agent.destroyed ? refuse(client) : undefined);
    agent.once('close', fail);
    agent.on('error', () => undefined);
    agent.once('connect', () => {
      agent.off('close', fail).setTimeout(0).setNoDelay(true);
      this.#join(client, agent);
    });
  }

  #join(client: Socket, agent: Socket): void {
    const splice: Splice = { client, agent, lastByteMs: monotonicMs() };
    this.#splices.add(splice);
    client.setTimeout(0);
    const touch = () => {
      splice.lastByteMs = monotonicMs();
    };
    client.on('data', touch);
    agent.on('data', touch);
    client.once('close', () => agent.destroy());
    agent.once('close', () => {
      this.#splices.delete(splice);
      client.destroySoon();
    });
    client.pipe(agent);
    agent.pipe(client);
  }
}

/** Reads one request head and answers that nobody is here. */
function refuse(client: Socket): void {
  let head = '';
  const read = () => {
    for (let chunk = client.read(); chunk !== null; chunk = client.read()) head += chunk.toString('latin1');
    if (!isHeadComplete(head) && head.length <= REQUEST_HEAD_BYTES_MAX) return;
    client.off('readable', read);
    client.end(answerWithoutAgent(head));
    client.resume();
  };
  client.on('readable', read);
  read();
}
