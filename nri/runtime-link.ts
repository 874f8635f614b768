import { createConnection, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { nodeErrorCode } from '../shim/base/errors.ts';
import { BackOff } from './back-off.ts';
import type { PluginEvents } from './plugin-service.ts';
import { runSession } from './plugin-session.ts';

/** Between tries, ms: containerd restarts in a second or two, and pods start without the plugin meanwhile. */
const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5000;
/** A connection that lasted this long was a good one, ms: the next try comes soon. */
const SETTLED_MS = 10_000;

export interface RuntimeLinkOptions {
  readonly runtime: { readonly socketPath: string } | { readonly fd: number };
  readonly name: string;
  readonly index: string;
  readonly events: PluginEvents;
  readonly log: (line: string) => void;
}

/**
 * Is a plugin of the runtime until the signal is aborted: dials again whenever the connection is lost. A plugin that the
 * runtime started has one connection for life, and its end is the end.
 */
export async function runRuntimeLink(options: RuntimeLinkOptions, signal: AbortSignal): Promise<void> {
  const { runtime } = options;
  const report = onceInARow(options.log);
  if ('fd' in runtime) {
    const socket = new Socket({ fd: runtime.fd, readable: true, writable: true });
    await runConnection(socket, options, report, signal);
    return;
  }
  const backOff = new BackOff(RETRY_FIRST_MS, RETRY_MAX_MS);
  while (!signal.aborted) {
    const startedMs = performance.now();
    await runConnection(createConnection(runtime.socketPath), options, report, signal);
    if (performance.now() - startedMs > SETTLED_MS) backOff.reset();
    await sleep(backOff.next(Math.random()), undefined, { signal }).catch(() => undefined);
  }
}

async function runConnection(
  socket: Socket,
  { name, index, events, runtime }: RuntimeLinkOptions,
  report: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const place = 'fd' in runtime ? `file descriptor ${runtime.fd}` : `"${runtime.socketPath}"`;
  const onProblem = (error: unknown): void => report(`Cannot handle an event: ${messageOf(error)}`);
  const onRegistered = (): void => report(`Registered as ${index}-${name} at ${place}`);
  try {
    const end = await runSession(socket, { name, index, events, onProblem, onRegistered }, signal);
    if (!signal.aborted) report(`The runtime has ended the connection: ${end.message}`);
  } catch (error) {
    if (!signal.aborted) report(`Cannot register at ${place}: ${foundIn(error)}, wanted a runtime with NRI`);
  }
}

/** The system's own code where a socket failed below. */
function foundIn(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  return `found ${nodeErrorCode(cause) ?? messageOf(error)}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Leaves out what was just said: a runtime that is away is tried for as long as it takes. */
function onceInARow(log: (line: string) => void): (line: string) => void {
  let last = '';
  return (line) => {
    if (line !== last) log(line);
    last = line;
  };
}
