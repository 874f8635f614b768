import { DEFAULT_P2P_HOST_RULES, type P2pHostRule } from '../base/p2p-address.ts';
import { startCriServer } from '../cri/cri-server.ts';
import type { IncomingCall } from '../cri/forward-stream.ts';
import { monotonicMs } from '../cri/monotonic-clock.ts';
import { Upstream } from '../cri/upstream.ts';
import { APPLY_PATH, ApplyFallback, DIFF_PATH, refuseApply } from '../differ/apply-fallback.ts';
import { AgentLink } from './agent-link.ts';
import { type AgentHttpAddress, HttpFront } from './http-front.ts';
import { routeApply, routePull } from './pull-router.ts';

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
  /** Which hosts have P2P addresses, while containerd gets the pulls. Default: as for the agent. */
  readonly p2pRules?: readonly P2pHostRule[];
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
  const fallback = new ApplyFallback(containerd);
  const pulls = { containerd, p2pRules: options.p2pRules ?? DEFAULT_P2P_HOST_RULES };
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
      onPullImage: (call) => void routePull(call, agent, pulls),
      handlers: new Map([
        [APPLY_PATH, (call: IncomingCall) => void routeApply(call, agent, fallback)],
        [DIFF_PATH, refuseApply],
      ]),
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
