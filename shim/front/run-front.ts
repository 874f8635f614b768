import { startCriServer } from '../cri/cri-server.ts';
import { monotonicMs } from '../cri/monotonic-clock.ts';
import { Upstream } from '../cri/upstream.ts';
import { AgentLink } from './agent-link.ts';
import { type AgentHttpAddress, HttpFront } from './http-front.ts';
import { routePull } from './pull-router.ts';

export interface FrontOptions {
  /** The CRI socket that kubelet uses. */
  readonly socketPath: string;
  readonly containerdSocketPath: string;
  /** The agent's own CRI socket. */
  readonly agentSocketPath: string;
  /** The HTTP port for containerd and overlaybd; absent: none. */
  readonly http?: {
    readonly listen: { readonly host: string; readonly port: number };
    readonly agent: AgentHttpAddress;
  };
  /** One line for people each time something changes. */
  readonly log?: (line: string) => void;
}

/**
 * Serves as the front until the signal is aborted. Neither the agent nor containerd has to be there.
 * @throws ShoalError `ListenFailed` when the CRI socket cannot be had.
 */
export async function runFront(options: FrontOptions, signal: AbortSignal): Promise<void> {
  const log = options.log ?? (() => undefined);
  const containerd = new Upstream('containerd', options.containerdSocketPath);
  let http: HttpFront | undefined;
  const agent = new AgentLink(options.agentSocketPath, (healthy) => {
    log(
      healthy
        ? 'The agent is healthy: it gets the pulls'
        : 'The agent is gone or hangs: containerd gets the pulls',
    );
    if (!healthy) http?.onAgentUnhealthy(monotonicMs());
  });
  try {
    const cri = await startCriServer({
      socketPath: options.socketPath,
      containerd,
      onPullImage: (call) => void routePull(call, agent, containerd),
    });
    if (options.http !== undefined) {
      http = new HttpFront({ ...options.http, isAgentHealthy: () => agent.healthy, log });
      await http.start();
    }
    log(`Listening on "${options.socketPath}"${http?.port === undefined ? '' : ` and port ${http.port}`}`);
    if (!signal.aborted)
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    await Promise.all([cri.close(), http?.close()]);
  } finally {
    agent.close();
    containerd.close();
  }
}
