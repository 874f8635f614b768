import { readStatus } from '../agent/control-client.ts';
import type { AgentStatus } from '../agent/control-protocol.ts';
import { ExitCode } from './exit-codes.ts';
import { formatBytes } from './format.ts';

/** `shoal status`: what the running agent is doing. */
export async function runStatusCommand(
  options: { readonly socket: string; readonly json?: boolean },
  signal: AbortSignal,
): Promise<number> {
  const status = await readStatus(options.socket, signal);
  process.stdout.write(options.json === true ? `${JSON.stringify(status)}\n` : describe(status));
  return ExitCode.Ok;
}

function describe(status: AgentStatus): string {
  const rows: [string, string][] = [
    ['version', status.version],
    ['node', status.node],
    ['mode', status.mode],
    ['store', status.store],
    ['up', `${Math.round(status.uptimeSeconds)} s`],
    ['peers', `${status.peersConnected} connected, ${status.peersKnown} known`],
    ['cache', `${formatBytes(status.cacheUsedBytes)} of ${formatBytes(status.cacheCapacityBytes)}`],
    ...Object.entries(status.totals).map(([name, value]): [string, string] => [name, totalOf(name, value)]),
    ['warming', describeWarming(status.warming)],
    ['pulls', String(status.pulls.length)],
  ];
  const pulls = status.pulls.map((pull) => `  ${pull.reference}: ${pull.layers.length} layers\n`);
  return `${rows.map(([name, value]) => `${name.padEnd(14)} ${value}\n`).join('')}${pulls.join('')}`;
}

function describeWarming({ pods, waiting, running, held }: AgentStatus['warming']): string {
  return `${running} images under way, ${waiting} waiting, ${held} ready; ${pods} pods known`;
}

function totalOf(name: string, value: number): string {
  return name.endsWith('Bytes') ? formatBytes(value) : String(value);
}
