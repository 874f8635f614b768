import { pullThroughAgent } from '../agent/control-client.ts';
import type { PullEvent } from '../agent/control-protocol.ts';
import type { OneShotTarget, pullOnce } from '../agent/one-shot.ts';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import { ExitCode, exitCodeOfCode } from './exit-codes.ts';
import { formatBytes, formatSeconds } from './format.ts';
import { createProgressView } from './progress-view.ts';

export interface PullCommandOptions {
  readonly socket: string;
  readonly store?: string;
  readonly containerd?: string;
  readonly creds?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** `shoal pull IMAGE`: progress to stderr, the result to stdout. Gives the exit code. */
export async function runPullCommand(
  image: string,
  options: PullCommandOptions,
  oneShot: typeof pullOnce,
  signal: AbortSignal,
): Promise<number> {
  const credentials = parseCredentials(options.creds);
  const events =
    options.store !== undefined || options.containerd !== undefined
      ? oneShot(image, targetOf(options), credentials, signal)
      : pullThroughAgent(options.socket, { image, ...credentials }, signal);
  const view =
    options.quiet === true || options.json === true
      ? undefined
      : createProgressView(process.stderr, Date.now);
  let end: PullEvent | undefined;
  try {
    for await (const event of events) {
      if (event.kind !== 'failed') view?.show(event.pull);
      end = event;
    }
  } finally {
    view?.close();
  }
  return printEnd(image, end, options.json === true);
}

/** `USER:PASSWORD` of `--creds`; the environment variable keeps it out of the process list. */
function parseCredentials(creds: string | undefined): { username: string; password: string } | undefined {
  const text = creds ?? process.env.SHOAL_CREDS;
  if (text === undefined || text === '') return undefined;
  const colon = text.indexOf(':');
  if (colon < 0)
    throw new ShoalError(ErrorCode.ConfigInvalid, 'Cannot use --creds: no ":" found, USER:PASSWORD wanted');
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

function targetOf(options: PullCommandOptions): OneShotTarget {
  if (options.store !== undefined && options.containerd !== undefined)
    throw new ShoalError(
      ErrorCode.ConfigInvalid,
      'Cannot use --store and --containerd together: one of them wanted',
    );
  return options.store === undefined ? { containerd: options.containerd ?? '' } : { store: options.store };
}

function printEnd(image: string, end: PullEvent | undefined, json: boolean): number {
  if (end === undefined || end.kind === 'progress')
    throw new ShoalError(ErrorCode.StoreUnavailable, `Cannot pull "${image}": the agent went away`);
  if (json) process.stdout.write(`${JSON.stringify(end)}\n`);
  if (end.kind === 'failed') {
    if (!json) process.stderr.write(`shoal: ${end.message} (${end.code})\n`);
    return exitCodeOfCode(end.code);
  }
  if (!json) process.stdout.write(summaryOf(image, end));
  return ExitCode.Ok;
}

function summaryOf(image: string, end: PullEvent & { kind: 'done' }): string {
  const { originBytes, peerBytes, cacheBytes } = end.counts;
  return [
    `${image}`,
    `  image ID  ${end.imageId}`,
    `  digest    ${end.digest}`,
    `  ${formatBytes(end.imageBytes)} in ${formatSeconds(end.seconds)}: origin ${formatBytes(originBytes)}, peers ${formatBytes(peerBytes)}, cache ${formatBytes(cacheBytes)}`,
    '',
  ].join('\n');
}
