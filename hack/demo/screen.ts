import cliProgress from 'cli-progress';
import { formatBytes, formatSeconds } from '../../shim/cli/format.ts';
import type { TransferCounts } from '../../shim/peer/transfer.ts';

export interface NodeLine {
  readonly name: string;
  readonly fetchedBytes: number;
  readonly counts: TransferCounts;
  /** Set when the node is done. */
  readonly seconds?: number;
}

const PLAIN_INTERVAL_MS = 2000;
const FORMAT = '  {name} {bar} {percentage}%  registry {origin}  peers {peers}  {note}';

/** Live bars, one a node, on a terminal; a line a second elsewhere. Everything goes to stderr: stdout is for results. */
export class Screen {
  readonly #stream = process.stderr;
  #bars: cliProgress.MultiBar | undefined;
  #byName = new Map<string, cliProgress.SingleBar>();
  #nextPlainMs = 0;

  step(text: string): void {
    this.#stream.write(`${text}\n`);
  }

  begin(names: readonly string[], imageBytes: number): void {
    if (!this.#stream.isTTY) return;
    const options = { stream: this.#stream, format: FORMAT, hideCursor: true, barsize: 32 };
    this.#bars = new cliProgress.MultiBar(options, cliProgress.Presets.shades_classic);
    for (const name of names)
      this.#byName.set(
        name,
        this.#bars.create(imageBytes, 0, payloadOf({ name, fetchedBytes: 0, counts: NOTHING })),
      );
  }

  show(lines: readonly NodeLine[], imageBytes: number): void {
    for (const line of lines) this.#byName.get(line.name)?.update(line.fetchedBytes, payloadOf(line));
    if (this.#stream.isTTY || Date.now() < this.#nextPlainMs) return;
    this.#nextPlainMs = Date.now() + PLAIN_INTERVAL_MS;
    const shown = lines.map((line) => `${line.name} ${Math.floor((line.fetchedBytes / imageBytes) * 100)}%`);
    this.#stream.write(`  ${shown.join('   ')}\n`);
  }

  end(): void {
    this.#bars?.stop();
    this.#bars = undefined;
    this.#byName = new Map();
  }
}

const NOTHING: TransferCounts = { originBytes: 0, peerBytes: 0, cacheBytes: 0 };

function payloadOf(line: NodeLine): Record<string, string> {
  return {
    name: line.name,
    origin: formatBytes(line.counts.originBytes).padStart(8),
    peers: formatBytes(line.counts.peerBytes).padStart(8),
    note: line.seconds === undefined ? '' : formatSeconds(line.seconds),
  };
}
