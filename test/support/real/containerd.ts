import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { atExit } from './at-exit.ts';
import { componentPath } from './components.ts';
import { type ConfigTable, type ContainerdVersion, containerdConfig } from './containerd-config.ts';
import { type Daemon, startDaemon } from './daemon.ts';
import { endTasks } from './shims.ts';
import { makeTemporaryRoot, type TemporaryRoot } from './temporary-root.ts';

/** A fresh one is ready in half a second; an hour-long bench on the same disk can make it ten. */
const READY_TIMEOUT_MS = 30_000;
const CTR_OUTPUT_BYTES_MAX = 64 << 20;

export interface ContainerdOptions {
  readonly version?: ContainerdVersion;
  /** Where images and snapshots go, such as a file system of its own. Default: below the temporary root. */
  readonly root?: string;
  /** The folder of hosts.toml files (CRI `config_path`). */
  readonly configPath?: string;
  /** Default overlayfs. */
  readonly snapshotter?: string;
  /** The sandbox image's reference. Needed to run pods. */
  readonly sandboxImage?: string;
  /** Folders of programs that it shall find before those of the system. */
  readonly programs?: readonly string[];
  /** The folder of the network plugins. Default: that of Debian's package. */
  readonly cniPlugins?: string;
  /** Merged into the configuration, table by table; see containerdConfig() for what is there. */
  readonly extraConfig?: ConfigTable;
  /** Adds the runtime handler `user-namespaces`, whose runc knows ID-mapped mounts. Needs the component runc-1.2. */
  readonly userNamespaces?: boolean;
  /** Runs it, and so its pods, in a network namespace. */
  readonly enter?: readonly string[];
}

export interface Containerd extends AsyncDisposable {
  /** The gRPC socket's path; CRI endpoints are `unix://` + this. */
  readonly socket: string;
  readonly endpoint: string;
  /** The one that it was started with. */
  readonly configFile: string;
  readonly root: string;
  readonly stateDir: string;
  readonly version: ContainerdVersion;
  /** Of the process that runs now; it changes with restart(). */
  pid(): number;
  /** Runs ctr in namespace k8s.io and gives its standard output. */
  ctr(...args: readonly string[]): Promise<string>;
  log(): string;
  /** SIGTERM and a new process on the same root. Containers live on. */
  restart(): Promise<void>;
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Starts it again after kill(). */
  start(): Promise<void>;
  /** Ends it, its shims and containers, and removes what it wrote. A given root is left to who gave it. */
  stop(): Promise<void>;
}

const run = promisify(execFile);

/** Starts a real containerd that can run pods. Root only. */
export async function startContainerd(options: ContainerdOptions = {}): Promise<Containerd> {
  const version = options.version ?? '2.1';
  const temporary = makeTemporaryRoot('ctd');
  // Root of a user namespace is nobody outside of it, and has to get to its root file system.
  if (options.userNamespaces === true) chmodSync(temporary.path, 0o711);
  const layout = makeLayout(temporary, options);
  writeFileSync(layout.configFile, containerdConfig(version, layout, options));
  const programs = componentPath(`containerd-${version}`);
  const env = environment([programs, ...(options.programs ?? [])], temporary);
  const launch = () => launchContainerd(programs, layout, env, options.enter);
  const endAllTasks = () =>
    endTasks({ socket: layout.socket, stateDir: layout.state, runcRoot: layout.runcRoot });
  const takeBack = atExit(endAllTasks);

  let daemon: Daemon | undefined;
  const stop = async () => {
    await daemon?.stop();
    endAllTasks();
    takeBack();
    temporary.remove();
  };
  try {
    daemon = await launch();
  } catch (error) {
    await stop();
    throw error;
  }
  const current = () => daemon as Daemon;
  const start = async () => {
    daemon = await launch();
  };
  const ctr = async (...args: readonly string[]) => {
    const all = ['--address', layout.socket, '--namespace', 'k8s.io', ...args];
    return (await run(`${programs}/ctr`, all, { env, maxBuffer: CTR_OUTPUT_BYTES_MAX })).stdout;
  };
  return {
    socket: layout.socket,
    endpoint: `unix://${layout.socket}`,
    configFile: layout.configFile,
    root: layout.root,
    stateDir: layout.state,
    version,
    pid: () => current().pid,
    ctr,
    log: () => current().log(),
    restart: async () => {
      await current().stop();
      await start();
    },
    kill: async (signal) => {
      current().kill(signal);
      if (signal === 'SIGKILL' || signal === 'SIGTERM') await current().ended;
    },
    start,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

export interface ContainerdLayout {
  readonly configFile: string;
  readonly logFile: string;
  readonly root: string;
  readonly state: string;
  readonly temp: string;
  readonly socket: string;
  readonly runcRoot: string;
  readonly runc: string;
  /** For everything that containerd would else look for in /opt and /etc. */
  readonly own: string;
}

function makeLayout(temporary: TemporaryRoot, options: ContainerdOptions): ContainerdLayout {
  const { path } = temporary;
  const layout = {
    configFile: `${path}/config.toml`,
    logFile: `${path}/containerd.log`,
    root: options.root ?? `${path}/root`,
    state: `${path}/state`,
    temp: `${path}/tmp`,
    socket: temporary.socketPath('c.sock'),
    runcRoot: `${path}/runc`,
    runc: `${componentPath('runc')}/runc`,
    own: `${path}/own`,
  };
  for (const folder of [layout.root, layout.state, layout.temp, layout.runcRoot, layout.own]) {
    mkdirSync(folder, { recursive: true, mode: 0o711 });
  }
  return layout;
}

async function launchContainerd(
  programs: string,
  layout: ContainerdLayout,
  env: NodeJS.ProcessEnv,
  enter: readonly string[] = [],
): Promise<Daemon> {
  const daemon = startDaemon({
    enter,
    name: 'containerd',
    command: `${programs}/containerd`,
    args: ['--config', layout.configFile],
    logPath: layout.logFile,
    env,
  });
  try {
    const ready = () =>
      run(`${programs}/ctr`, ['--address', layout.socket, 'version'], { env, timeout: 5_000 });
    await daemon.waitUntil('to answer', ready, READY_TIMEOUT_MS);
    return daemon;
  } catch (error) {
    await daemon.stop();
    throw error;
  }
}

/** containerd finds its shim and the shim finds runc by PATH. */
function environment(programs: readonly string[], temporary: TemporaryRoot): NodeJS.ProcessEnv {
  const path = [...programs, componentPath('runc'), '/usr/sbin', '/usr/bin', '/sbin', '/bin'].join(':');
  return { ...process.env, PATH: path, TMPDIR: `${temporary.path}/tmp` };
}
