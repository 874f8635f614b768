import { dirname, resolve } from 'node:path';
import type { Containerd } from './real/containerd.ts';
import { type Daemon, startDaemon } from './real/daemon.ts';
import { makeTemporaryRoot } from './real/temporary-root.ts';

const LAUNCHER = resolve(import.meta.dirname, '../../nri/shoal-nri');
/** The first start of a checkout also fills the cache of compiled code. */
const READY_TIMEOUT_MS = 20_000;

export interface NriPluginOptions {
  readonly nriSocket: string;
  readonly agentSocket: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** A real plugin process that dials the runtime. */
export interface NriPlugin extends AsyncDisposable {
  pid(): number;
  log(): string;
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<void>;
  isRunning(): boolean;
  /** Resolves when this line has been logged so many times. */
  waitForLine(line: RegExp, count?: number): Promise<void>;
  /** Starts it again after it has ended. */
  restart(): Promise<void>;
}

/** Where a containerd of `startContainerd()` has its NRI socket. */
export function nriSocketOf({ stateDir }: Containerd): string {
  return `${dirname(stateDir)}/own/nri.sock`;
}

export function startNriPlugin({ nriSocket, agentSocket, env }: NriPluginOptions): NriPlugin {
  const root = makeTemporaryRoot('plg');
  const logPath = `${root.path}/nri.log`;
  const launch = (): Daemon =>
    startDaemon({
      name: 'NRI plugin',
      command: LAUNCHER,
      args: ['--socket', nriSocket, '--agent', agentSocket],
      logPath,
      env: { ...process.env, ...env },
    });
  let daemon = launch();
  const waitForLine = async (line: RegExp, count = 1): Promise<void> => {
    const pattern = new RegExp(line.source, 'gm');
    const isThere = (): boolean => [...daemon.log().matchAll(pattern)].length >= count;
    await daemon.waitUntil(`to log ${line} ${count} times`, isThere, READY_TIMEOUT_MS);
  };
  return {
    pid: () => daemon.pid,
    log: () => daemon.log(),
    kill: (signal) => daemon.kill(signal),
    get ended() {
      return daemon.ended;
    },
    isRunning: () => daemon.isRunning(),
    waitForLine,
    restart: async () => {
      await daemon.ended;
      daemon = launch();
    },
    [Symbol.asyncDispose]: async () => {
      await daemon.stop();
      root.remove();
    },
  };
}
