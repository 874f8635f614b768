import { existsSync, lstatSync, readdirSync, rmSync } from 'node:fs';
import { unmountBelow } from './mounts.ts';
import { endTasks, killProcessesNaming } from './shims.ts';

/** `shoal-LABEL-PID-RANDOM`, as makeTemporaryRoot() names them. */
const ROOT_NAME = /^shoal-[a-z]+-(\d+)-\w{6}$/;

/**
 * Removes what test processes left behind that were killed outright: their daemons, containers, mounts and folders.
 * A root is stale when the process whose number it carries is gone; roots of other users are left alone.
 */
export function sweepStaleRoots(parent: string): void {
  for (const name of readdirSync(parent)) {
    const owner = ROOT_NAME.exec(name)?.[1];
    if (owner === undefined || existsSync(`/proc/${owner}`)) continue;
    const root = `${parent}/${name}`;
    if (lstatSync(root, { throwIfNoEntry: false })?.uid !== process.getuid?.()) continue;
    endTasks({ socket: `${root}/c.sock`, stateDir: `${root}/state`, runcRoot: `${root}/runc` });
    killProcessesNaming(root);
    unmountBelow(root);
    // Two processes may sweep at once: the other one empties folders under our hands.
    rmSync(root, { recursive: true, force: true, maxRetries: 3 });
  }
}
