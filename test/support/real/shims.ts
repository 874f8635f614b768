import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { unmountBelow } from './mounts.ts';

export interface TaskFolders {
  readonly socket: string;
  readonly stateDir: string;
  readonly runcRoot: string;
}

/**
 * Ends the containers and shims that a containerd left behind: they outlive it on purpose. Synchronous, so that it
 * also works while the process exits. Never throws.
 */
export function endTasks({ socket, stateDir, runcRoot }: TaskFolders): void {
  const sockets = shimSockets(stateDir);
  const shims = shimPids(socket);
  const processes = shims.flatMap((pid) => descendants(pid));
  for (const pid of [...shims, ...processes]) killQuietly(pid);
  removeCgroups(runcRoot);
  unmountBelow(stateDir);
  for (const path of sockets) rmSync(path, { force: true });
}

/** Shims carry containerd's socket in their arguments. */
export function shimPids(socket: string): number[] {
  return allPids().filter((pid) => {
    const args = readQuietly(`/proc/${pid}/cmdline`).split('\0');
    return (args[0] ?? '').includes('containerd-shim') && args.some((arg) => arg.startsWith(socket));
  });
}

/** Kills every process with an argument below the folder: daemons are started with their configuration's path. */
export function killProcessesNaming(folder: string): void {
  for (const pid of allPids()) {
    if (readQuietly(`/proc/${pid}/cmdline`).includes(`${folder}/`)) killQuietly(pid);
  }
}

function descendants(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const pid of allPids()) {
    const parent = Number(/^PPid:\s+(\d+)/m.exec(readQuietly(`/proc/${pid}/status`))?.[1] ?? 0);
    children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const found: number[] = [];
  const waiting = [root];
  for (let pid = waiting.pop(); pid !== undefined; pid = waiting.pop()) {
    const own = children.get(pid) ?? [];
    found.push(...own);
    waiting.push(...own);
  }
  return found;
}

/** The sockets are not below the state folder: all containerds of a machine keep them in one place. */
function shimSockets(stateDir: string): string[] {
  const bundles = `${stateDir}/io.containerd.runtime.v2.task/k8s.io`;
  return listQuietly(bundles).flatMap((id) => {
    const addresses = ['address', 'bootstrap.json'].map((file) => readQuietly(`${bundles}/${id}/${file}`));
    return [...addresses.join(' ').matchAll(/unix:\/\/(\/[^\s"]+)/g)].map((match) => match[1] as string);
  });
}

/** A container's cgroups stay when its processes are killed; runc's state file names them. */
function removeCgroups(runcRoot: string): void {
  const folder = `${runcRoot}/k8s.io`;
  for (const id of listQuietly(folder)) {
    const state = readQuietly(`${folder}/${id}/state.json`);
    for (const [, path] of state.matchAll(/"[^"]*":"(\/sys\/fs\/cgroup\/[^"]+)"/g)) {
      if (path !== undefined) spawnSync('rmdir', [path], { stdio: 'ignore' });
    }
  }
}

function allPids(): number[] {
  return listQuietly('/proc').map(Number).filter(Number.isInteger);
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself meanwhile.
  }
}

function readQuietly(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function listQuietly(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
