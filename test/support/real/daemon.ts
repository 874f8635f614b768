import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { atExit } from './at-exit.ts';

/** Between two looks at whether a process got ready. */
const READY_POLL_MS = 20;
/** A process that has not ended this long after SIGTERM is killed. */
const STOP_GRACE_MS = 5_000;
const LOG_TAIL_LINES = 25;

export interface DaemonOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly logPath: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Words that run the command somewhere else, such as those of a network namespace. They must end by exec: signals go to them. */
  readonly enter?: readonly string[];
}

/** A real process with its output in a file. It is killed when this process exits. */
export interface Daemon extends AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  /** Resolves when the process has ended. */
  readonly ended: Promise<void>;
  isRunning(): boolean;
  log(): string;
  /** Polls until the check gives something else than false or undefined; fails early when the process ends. */
  waitUntil<T>(
    what: string,
    check: () => Promise<T> | T,
    timeoutMs: number,
  ): Promise<Exclude<T, false | undefined>>;
  kill(signal: NodeJS.Signals): void;
  /** SIGTERM, and SIGKILL after a grace time. */
  stop(): Promise<void>;
}

export function startDaemon(options: DaemonOptions): Daemon {
  const child = spawnLogged(options);
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  ended.then(atExit(() => void child.kill('SIGKILL')));

  const daemon: Daemon = {
    name: options.name,
    pid: child.pid ?? 0,
    ended,
    isRunning: () => child.exitCode === null && child.signalCode === null && child.pid !== undefined,
    log: () => readFileSync(options.logPath, 'utf8'),
    waitUntil: (what, check, timeoutMs) => waitUntil(daemon, what, check, timeoutMs),
    kill: (signal) => void child.kill(signal),
    stop: () => stop(child, ended),
    [Symbol.asyncDispose]: () => stop(child, ended),
  };
  return daemon;
}

function spawnLogged(options: DaemonOptions): ChildProcess {
  const log = openSync(options.logPath, 'a');
  const [command = options.command, ...args] = [...(options.enter ?? []), options.command, ...options.args];
  const child = spawn(command, args, {
    stdio: ['ignore', log, log],
    env: options.env ?? process.env,
    cwd: options.cwd,
  });
  closeSync(log);
  return child;
}

async function waitUntil<T>(
  daemon: Daemon,
  what: string,
  check: () => Promise<T> | T,
  timeoutMs: number,
): Promise<Exclude<T, false | undefined>> {
  const deadlineMs = performance.now() + timeoutMs;
  let lastError = '';
  while (performance.now() < deadlineMs) {
    if (!daemon.isRunning()) throw new Error(failure(daemon, `${what}: the process has ended`));
    try {
      const value = await check();
      if (value !== false && value !== undefined) return value as Exclude<T, false | undefined>;
    } catch (error) {
      lastError = `; last error: ${error instanceof Error ? error.message : error}`;
    }
    await sleep(READY_POLL_MS);
  }
  throw new Error(failure(daemon, `${what}: not within ${timeoutMs} ms${lastError}`));
}

function failure(daemon: Daemon, what: string): string {
  const tail = daemon.log().trimEnd().split('\n').slice(-LOG_TAIL_LINES).join('\n');
  return `Cannot wait for "${daemon.name}" ${what}. End of its log:\n${tail}`;
}

async function stop(child: ChildProcess, ended: Promise<void>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  child.kill('SIGTERM');
  child.kill('SIGCONT');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_GRACE_MS);
  await ended;
  clearTimeout(timer);
}
