import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { pullThroughAgent, readStatus } from '../../shim/agent/control-client.ts';
import type { AgentStatus, PullEvent } from '../../shim/agent/control-protocol.ts';
import { freePort } from './free-port.ts';
import { type Daemon, startDaemon } from './real/daemon.ts';
import { makeTemporaryRoot } from './real/temporary-root.ts';

const LAUNCHER = resolve(import.meta.dirname, '../../shim/shoal');
const READY_TIMEOUT_MS = 20_000;

export interface AgentOptions {
  readonly name: string;
  /** Where cache and layout go. Default: below a temporary root of its own. */
  readonly directory?: string;
  /** The containerd to import into; without one the layout store is used. */
  readonly containerd?: string;
  readonly containerdConfigPath?: string;
  /** containerd's own configuration. */
  readonly containerdConfigFile?: string;
  /** `127.0.0.1:PORT` on which peers are served. Default: a free port. */
  readonly listen?: string;
  readonly peers?: readonly string[];
  /** Settings as in the configuration file, merged over the rest. */
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly env?: NodeJS.ProcessEnv;
  /** Runs it in a network namespace. */
  readonly enter?: readonly string[];
}

/** A real agent process. */
export interface Agent extends AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  readonly directory: string;
  readonly criSocket: string;
  readonly controlSocket: string;
  readonly peerAddress: string;
  readonly configFile: string;
  log(): string;
  isRunning(): boolean;
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<void>;
  /** Starts it again, with the same configuration, after it has ended. */
  restart(): Promise<void>;
  status(): Promise<AgentStatus>;
  pull(
    image: string,
    signal?: AbortSignal,
    credentials?: { username: string; password: string },
  ): AsyncGenerator<PullEvent>;
  stop(): Promise<void>;
}

export async function startAgent(options: AgentOptions): Promise<Agent> {
  const root = makeTemporaryRoot('agt');
  const directory = options.directory ?? root.path;
  mkdirSync(directory, { recursive: true });
  const listen = options.listen ?? `127.0.0.1:${await freePort()}`;
  const criSocket = root.socketPath('agent.sock');
  const controlSocket = root.socketPath('control.sock');
  const configFile = `${root.path}/config.yaml`;
  writeFileSync(configFile, stringify(settingsOf(options, { directory, listen, criSocket, controlSocket })));
  const launch = (): Promise<Daemon> => launchAgent(options, root.path, configFile, controlSocket);
  let daemon = await launch().catch((error: unknown) => {
    root.remove();
    throw error;
  });
  const stop = async (): Promise<void> => {
    await daemon.stop();
    root.remove();
  };
  const never = new AbortController().signal;
  return {
    name: options.name,
    directory,
    criSocket,
    controlSocket,
    configFile,
    peerAddress: listen,
    get pid() {
      return daemon.pid;
    },
    get ended() {
      return daemon.ended;
    },
    log: () => daemon.log(),
    isRunning: () => daemon.isRunning(),
    kill: (signal) => daemon.kill(signal),
    restart: async () => {
      await daemon.ended;
      daemon = await launch();
    },
    status: () => readStatus(controlSocket, never),
    pull: (image, signal = never, credentials = undefined) =>
      pullThroughAgent(controlSocket, { image, ...credentials }, signal),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** Reads all events of a pull and gives the last; throws when the pull failed. */
export async function pullToEnd(events: AsyncIterable<PullEvent>): Promise<PullEvent & { kind: 'done' }> {
  let last: PullEvent | undefined;
  for await (const event of events) last = event;
  if (last?.kind === 'done') return last;
  throw new Error(
    `Cannot pull: ${last?.kind === 'failed' ? `${last.code} ${last.message}` : 'the agent went away'}`,
  );
}

interface Places {
  readonly directory: string;
  readonly listen: string;
  readonly criSocket: string;
  readonly controlSocket: string;
}

function settingsOf(options: AgentOptions, places: Places): object {
  const { directory, listen, criSocket, controlSocket } = places;
  return {
    node: { address: '127.0.0.1' },
    peers: { static: options.peers ?? [], listen },
    p2p: { v2: { cache: { directory: join(directory, 'cache') } } },
    cri: {
      socket: criSocket,
      ...(options.containerd !== undefined && { containerdSocket: options.containerd }),
    },
    control: { socket: controlSocket },
    http: { listen: '127.0.0.1:0' },
    policy: { mode: 'all' },
    store: options.containerd === undefined ? 'layout' : 'containerd',
    containerd: {
      configPath: options.containerdConfigPath ?? '',
      ...(options.containerdConfigFile !== undefined && { configFile: options.containerdConfigFile }),
    },
    layout: { directory: join(directory, 'layout') },
    ...options.settings,
  };
}

async function launchAgent(
  options: AgentOptions,
  root: string,
  configFile: string,
  controlSocket: string,
): Promise<Daemon> {
  const daemon = startDaemon({
    name: `agent ${options.name}`,
    command: LAUNCHER,
    args: ['agent', '--config', configFile],
    logPath: `${root}/agent.log`,
    env: { ...process.env, ...options.env },
    enter: options.enter ?? [],
  });
  try {
    const ready = () => readStatus(controlSocket, AbortSignal.timeout(1000));
    await daemon.waitUntil('to answer', ready, READY_TIMEOUT_MS);
    return daemon;
  } catch (error) {
    await daemon.stop();
    throw error;
  }
}
