/**
 * `make bench-peer`: four peers send one blob to one agent over loopback, each a process. The transfer engine against a
 * bare receiver (one static buffer a connection, SHA-256, one write a chunk) fed by bare senders, alternating. One JSON
 * line for each way to talk, then what nginx sends to curl on the same machine, where there is one. All have moved a few
 * chunks before they are measured; COLD=1: none.
 * MODE=plaintext|mtls (default both), RUNS=5, SIZE_MB=256.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { TlsFiles } from '../../shim/peer/tls-files.ts';
import { CHUNK_SIZE_BYTES } from '../../shim/swarm/limits.ts';
import { PeerCertificates } from '../../test/support/peer-certificates.ts';
import { median } from './median.ts';
import { benchNginx } from './nginx-rival.ts';
import type { Role, RoleName, Usage } from './peer-roles.ts';
import { useMemory } from './used-memory.ts';

const PEERS = 4;
/** Of a blob that is taken first, by the engine and bare: 64 MiB. */
const WARM_UP_CHUNKS = 32;
const ROLES = resolve(import.meta.dirname, 'peer-roles.ts');
const MODES = ['plaintext', 'mtls'] as const;
type Mode = (typeof MODES)[number];

interface Round {
  readonly taker: Usage;
  readonly senderCpuSeconds: number;
}

interface Extent {
  readonly chunks: number;
  readonly warmUpChunks: number;
  readonly runs: number;
}

async function main(): Promise<void> {
  const chunks = Math.ceil((Number(process.env.SIZE_MB ?? 256) * 1e6) / CHUNK_SIZE_BYTES / PEERS) * PEERS;
  const runs = Number(process.env.RUNS ?? 5);
  const warmUpChunks = process.env.COLD ? 0 : WARM_UP_CHUNKS;
  const modes = MODES.filter((mode) => (process.env.MODE ?? mode) === mode);
  using memory = useMemory();
  for (const mode of modes) {
    memory.refill();
    console.log(JSON.stringify(await benchMode(mode, { chunks, warmUpChunks, runs })));
  }
  console.log(JSON.stringify(await benchNginx(chunks * CHUNK_SIZE_BYTES, PEERS)));
}

async function benchMode(mode: Mode, { chunks, warmUpChunks, runs }: Extent) {
  using certificates = await PeerCertificates.create();
  const tls = mode === 'mtls' ? await certificates.issue() : undefined;
  const engine: Round[] = [];
  const bare: Round[] = [];
  const bareTls: Round[] = [];
  await inScratch(async (directory) => {
    const bench = new Bench({ directory, chunks, warmUpChunks, tls });
    try {
      await bench.start();
      for (let run = 0; run < runs; run++) {
        bare.push(await bench.takeBare(undefined));
        if (tls !== undefined) bareTls.push(await bench.takeBare(tls));
        engine.push(await bench.takeWithEngine());
      }
    } finally {
      bench.stop();
    }
  });
  return figuresOf({ mode, bytes: chunks * CHUNK_SIZE_BYTES, engine, bare, bareTls });
}

interface Rounds {
  readonly mode: Mode;
  readonly bytes: number;
  readonly engine: readonly Round[];
  /** In plain text, whatever the engine speaks. */
  readonly bare: readonly Round[];
  readonly bareTls: readonly Round[];
}

function figuresOf({ mode, bytes, engine, bare, bareTls }: Rounds) {
  const rate = (rounds: readonly Round[]) =>
    Math.round(median(rounds.map(({ taker }) => bytes / taker.seconds)));
  const perGB = (cpuSeconds: (round: Round) => number, rounds: readonly Round[]) =>
    Number(((median(rounds.map(cpuSeconds)) / bytes) * 1e9).toFixed(2));
  const taking = ({ taker }: Round): number => taker.cpuSeconds;
  const sending = ({ senderCpuSeconds }: Round): number => senderCpuSeconds;
  // Each run is held against the one before it: what else the machine does comes and goes.
  const ratios = engine.map(({ taker }, run) => (bare[run]?.taker.seconds ?? Number.NaN) / taker.seconds);
  return {
    case: 'peer',
    mode,
    peers: PEERS,
    bytes,
    runs: engine.length,
    bytesPerSecond: rate(engine),
    prototypeBytesPerSecond: rate(bare),
    ...(bareTls.length > 0 && { prototypeTlsBytesPerSecond: rate(bareTls) }),
    ratio: Number(median(ratios).toFixed(2)),
    cores: Number(median(engine.map(({ taker }) => taker.cpuSeconds / taker.seconds)).toFixed(2)),
    rssBytes: Math.max(...engine.map(({ taker }) => taker.rssBytes)),
    receiverCpuSecondsPerGB: perGB(taking, engine),
    senderCpuSecondsPerGB: perGB(sending, engine),
    prototypeReceiverCpuSecondsPerGB: perGB(taking, bare),
    prototypeSenderCpuSecondsPerGB: perGB(sending, bare),
  };
}

interface Common {
  readonly directory: string;
  readonly chunks: number;
  readonly warmUpChunks: number;
  readonly tls: TlsFiles | undefined;
}

/** The processes of one way to talk: senders stay, a receiver is new each time. */
class Bench {
  readonly #common: Common;
  readonly #children: ChildProcess[] = [];
  #bare: Sender[] = [];
  #bareTls: Sender[] = [];
  #engines: Sender[] = [];
  #count = 0;

  constructor(common: Common) {
    this.#common = common;
  }

  async start(): Promise<void> {
    const { chunks, warmUpChunks, tls } = this.#common;
    const start = (role: Omit<Own, 'holders'>) =>
      Promise.all(Array.from({ length: PEERS }, () => this.#startSender({ ...role, holders: [] })));
    const bare = { name: 'hold-bare', chunks: chunks / PEERS, warmUpChunks } as const;
    this.#bare = await start({ ...bare, tls: undefined });
    if (tls !== undefined) this.#bareTls = await start({ ...bare, tls });
    this.#engines = await start({ name: 'hold-engine', chunks, warmUpChunks, tls });
  }

  takeBare(tls: TlsFiles | undefined): Promise<Round> {
    return this.#take('take-bare', tls === undefined ? this.#bare : this.#bareTls, tls);
  }

  takeWithEngine(): Promise<Round> {
    return this.#take('take-engine', this.#engines, this.#common.tls);
  }

  stop(): void {
    for (const child of this.#children) child.kill();
  }

  async #startSender(role: Own): Promise<Sender> {
    const child = this.#fork(role);
    return { child, self: String(await answerOf(child)) };
  }

  async #take(name: RoleName, senders: readonly Sender[], tls: TlsFiles | undefined): Promise<Round> {
    const holders = senders.map(({ self }) => self);
    const marks = () => Promise.all(senders.map(({ child }) => markOf(child)));
    const { chunks, warmUpChunks } = this.#common;
    const child = this.#fork({ name, chunks, warmUpChunks, holders, tls });
    if (name === 'take-engine') {
      const all = [...holders, String(await answerOf(child))].map((peer) => ({ peer, zone: '' }));
      for (const sender of senders) sender.child.send(all);
    }
    if (name === 'take-engine') child.send('go');
    await answerOf(child);
    await marks();
    child.send('go');
    const taker = (await answerOf(child)) as Usage;
    const used = await marks();
    if (child.connected) child.disconnect();
    if (child.exitCode === null) await once(child, 'exit');
    return { taker, senderCpuSeconds: used.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0) };
  }

  #fork(role: Own): ChildProcess {
    const own = join(this.#common.directory, `${role.name}-${this.#count++}`);
    mkdirSync(own);
    const child = fork(ROLES, ['--role', JSON.stringify({ ...role, directory: own })]);
    this.#children.push(child);
    return child;
  }
}

type Own = Omit<Role, 'directory'>;

interface Sender {
  readonly child: ChildProcess;
  readonly self: string;
}

async function answerOf(child: ChildProcess): Promise<unknown> {
  const [message] = await once(child, 'message');
  return message;
}

async function markOf(child: ChildProcess): Promise<Usage> {
  child.send('mark');
  return (await answerOf(child)) as Usage;
}

async function inScratch(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-bench-peer-'));
  try {
    await work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

await main();
