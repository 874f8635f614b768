/**
 * What the simulator's machines are made of: CPU seconds per GB to receive, serve and unpack, by the other benches, written to
 * `test/sim/costs.json`. A busy machine takes more CPU time for the same work, so each figure is held against what plain programs take in
 * the same run, and against what these take on the machine when nothing else runs.
 *
 * `make bench-costs`. Environment: RUNS=3.
 */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Costs } from '../../test/sim/world-options.ts';

/** Most time for one of the benches, ms. */
const TIMEOUT_MS = 600_000;
/** What a bare receiver (static buffers, SHA-256, one write) takes on the free machine, CPU seconds per GB: 0.63 GB/s a core. */
const BARE_RECEIVER_SECONDS_PER_GB = 1.59;
/** What `gzip -dc | tar x` takes there, seconds per GB of content. */
const PLAIN_UNPACK_SECONDS_PER_GB = 4.56;
const COSTS_FILE = join(import.meta.dirname, '../../test/sim/costs.json');

if (import.meta.main) await main();

async function main(): Promise<void> {
  const RUNS = process.env.RUNS ?? '3';
  const [peer] = await linesOf('peer.ts', { RUNS, MODE: 'plaintext' });
  const [unpack] = await linesOf('unpack.ts', { RUNS, CASE: 'large-files', FILESYSTEM: 'tmpfs' });
  const bareReceiver = figure(peer, 'prototypeReceiverCpuSecondsPerGB');
  const plainUnpack = figure(unpack, 'rivalSecondsPerGB');
  const ofPeers = Math.min(1, BARE_RECEIVER_SECONDS_PER_GB / bareReceiver);
  const ofUnpack = Math.min(1, PLAIN_UNPACK_SECONDS_PER_GB / plainUnpack);
  const measured = {
    receive: figure(peer, 'receiverCpuSecondsPerGB'),
    serve: figure(peer, 'senderCpuSecondsPerGB'),
    unpack: figure(unpack, 'oursCpuSecondsPerGB'),
    bareReceiver,
    plainUnpack,
  };
  const costs: Costs = {
    receiveSecondsPerGb: round(measured.receive * ofPeers),
    serveSecondsPerGb: round(measured.serve * ofPeers),
    unpackSecondsPerGb: round(measured.unpack * ofUnpack),
  };
  const how = `make bench-costs RUNS=${RUNS}: plaintext; gzip of large files on tmpfs`;
  const scale = `times ${round(ofPeers)} (peers) and ${round(ofUnpack)} (unpack), for plain programs took that much longer than when nothing else runs`;
  const madeWith = `${how}; measured ${JSON.stringify(measured)}, ${scale}`.replaceAll('"', '');
  writeFileSync(COSTS_FILE, `${JSON.stringify({ madeWith, ...costs }, null, 2)}\n`);
  console.log(JSON.stringify({ ...costs, madeWith }));
}

/** The JSON lines that a bench prints. */
async function linesOf(bench: string, environment: Readonly<Record<string, string>>): Promise<object[]> {
  const { stdout } = await promisify(execFile)(process.execPath, [join(import.meta.dirname, bench)], {
    env: { ...process.env, ...environment },
    timeout: TIMEOUT_MS,
  });
  return stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as object);
}

function figure(line: object | undefined, name: string): number {
  const value = (line as Record<string, unknown> | undefined)?.[name];
  if (typeof value !== 'number' || !(value > 0))
    throw new Error(`Cannot use "${name}": ${value}, a number wanted`);
  return value;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
