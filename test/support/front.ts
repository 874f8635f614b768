import { createConnection } from 'node:net';
import { resolve } from 'node:path';
import { type Agent, type AgentOptions, startAgent } from './agent.ts';
import { freePort } from './free-port.ts';
import { type Daemon, startDaemon } from './real/daemon.ts';
import { makeTemporaryRoot } from './real/temporary-root.ts';

const LAUNCHER = resolve(import.meta.dirname, '../../shim/shoal');
const READY_TIMEOUT_MS = 20_000;
/** The front looks at its agent twice a second and gives a frozen one two seconds. */
const VERDICT_TIMEOUT_MS = 10_000;

export interface FrontOptions {
  /** The socket of the containerd behind. Nobody needs to listen there yet. */
  readonly containerd: string;
  /** Runs it in a network namespace. */
  readonly enter?: readonly string[];
}

/** A real front process: the socket that kubelet is given, whether or not there is an agent. */
export interface Front extends AsyncDisposable {
  readonly pid: number;
  /** The CRI socket for kubelet and crictl. */
  readonly socket: string;
  /** `127.0.0.1:PORT` of the HTTP service. */
  readonly httpAddress: string;
  /** Where the front looks for its agent. */
  readonly agentSocket: string;
  readonly agentHttpSocket: string;
  log(): string;
  isRunning(): boolean;
  /** Resolves when the last thing that the front said about its agent is this. */
  waitForAgent(state: 'healthy' | 'gone'): Promise<void>;
  stop(): Promise<void>;
}

export async function startFront({ containerd, enter = [] }: FrontOptions): Promise<Front> {
  const root = makeTemporaryRoot('frn');
  const socket = root.socketPath('cri.sock');
  const agentSocket = root.socketPath('agent/cri.sock');
  const agentHttpSocket = root.socketPath('agent/http.sock');
  const httpAddress = `127.0.0.1:${await freePort()}`;
  const flags = { socket, containerd, agent: agentSocket, http: httpAddress, 'agent-http': agentHttpSocket };
  const daemon = startDaemon({
    name: 'front',
    command: LAUNCHER,
    args: ['front', ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])],
    logPath: `${root.path}/front.log`,
    enter,
  });
  const stop = async (): Promise<void> => {
    await daemon.stop();
    root.remove();
  };
  try {
    await daemon.waitUntil('to listen', () => accepts(socket), READY_TIMEOUT_MS);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    pid: daemon.pid,
    socket,
    httpAddress,
    agentSocket,
    agentHttpSocket,
    log: () => daemon.log(),
    isRunning: () => daemon.isRunning(),
    waitForAgent: (state) => waitForAgent(daemon, state),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** Starts an agent where the front looks for it, with its policy as shipped (pods opt in), and waits until it gets the pulls. */
export async function startAgentBehind(
  front: Front,
  options: Partial<AgentOptions> & { readonly containerd: string },
): Promise<Agent> {
  const agent = await startAgent({
    name: 'node',
    ...options,
    settings: {
      cri: { socket: front.agentSocket, containerdSocket: options.containerd },
      http: { listen: front.agentHttpSocket },
      policy: { mode: 'opt-in' },
      ...options.settings,
    },
  });
  try {
    await front.waitForAgent('healthy');
    return agent;
  } catch (error) {
    await agent.stop();
    throw error;
  }
}

async function waitForAgent(daemon: Daemon, state: 'healthy' | 'gone'): Promise<void> {
  const wanted = `The agent is ${state}`;
  const said = () =>
    daemon
      .log()
      .match(/^The agent is \w+/gm)
      ?.at(-1) === wanted;
  await daemon.waitUntil(`to find its agent ${state}`, said, VERDICT_TIMEOUT_MS);
}

function accepts(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(socketPath);
    const settle = (accepted: boolean): void => {
      socket.destroy();
      resolve(accepted);
    };
    socket.once('connect', () => settle(true)).once('error', () => settle(false));
  });
}
